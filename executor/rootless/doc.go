// Package rootless knows which rung of the ladder of isolation a process stands
// on, and moves a process of an ordinary user into a user namespace in which it
// is root.
//
// A process cannot enter a new user namespace once it has threads, which a Go
// program always has. So Enter executes the program anew, and code that runs
// before the Go runtime does the rest (enter.c): the process keeps its number,
// its terminal, its parent and its exit code.
package rootless
