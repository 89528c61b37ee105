// Package sparse passes over what a file does not have: long runs of zeros in the digest
// of its content, and holes where it is copied.
package sparse
