// Package tarsplit keeps what a layer's tar has beside the contents of its files, in
// the format of tar-split, so that the exact tar can be assembled again.
package tarsplit
