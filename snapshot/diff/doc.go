// Package diff finds the entries of the layer that a directory is: what differs in it from
// the layers below. The rules are BuildKit's.
package diff
