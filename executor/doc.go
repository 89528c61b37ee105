// Package executor walks a graph of build steps, skips those whose result the
// cache knows, and runs the others.
package executor
