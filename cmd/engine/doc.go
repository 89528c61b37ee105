// Package engine opens what builds and containers work on: a Host is what a process has
// once (how it is isolated, its slots, its budget), an Engine is what one request uses of
// a store, and gives back when it is closed.
package engine
