// Package files has what every part of the program does with files that several
// processes use: locks that end with the process that holds them, scratch folders
// that do not outlive their maker, and files that are replaced at once.
//
// All locks are flock(2) locks. They belong to an open file, so goroutines of one
// process exclude each other as processes do, and they end when the file is closed
// or its process dies, however that happens.
package files
