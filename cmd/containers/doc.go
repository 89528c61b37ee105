// Package containers starts processes on images and on what steps left, keeps what they
// changed, and makes images of that. It knows no terminal and no flags.
package containers
