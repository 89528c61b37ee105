// Package pack turns entries into a layer: its tar, with its digest, its manifest and,
// where that is asked for, its directory, in one pass.
package pack
