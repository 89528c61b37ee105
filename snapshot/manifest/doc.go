// Package manifest has what is known of a layer's contents: entries, their encoding,
// and the files of sorted entries in which they are looked up without being decoded.
package manifest
