// Package runc runs processes in containers with libcontainer, in-process.
//
// A program that uses it must call Init first thing in main (and in TestMain):
// the container's first process is this same binary, started again.
package runc
