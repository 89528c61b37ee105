// Package flags turns command lines and the environment into requests, once: nothing that
// comes after it knows what a flag is. It reads the files that values name, and changes
// nothing.
package flags
