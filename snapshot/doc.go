// Package snapshot holds immutable file system layers, stacks of them, and
// writable snapshots on top; it turns directories into layer tars and back, and
// knows what every layer contains.
//
// A Layer has several forms (directory, tar, manifest, tarsplit, blob), each
// derived from another on demand. Laziness lives here only: nobody else asks
// whether a layer is present on disk.
package snapshot
