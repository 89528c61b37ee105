// Package cli is the composition root of the program: it turns flags into
// options, wires the other packages together, shows events, and turns errors
// into messages and exit codes.
package cli
