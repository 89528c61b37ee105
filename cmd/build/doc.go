// Package build does builds, for whoever asks: a command line, a file of targets, a
// server. A Request says what is asked for, Inputs where everything that is read comes
// from and where files go. A Job's phases each return a value that the next one takes:
//
//	Plan     the Dockerfile as a graph of steps, and what is known of its images
//	Solve    the steps' results
//	Export   what was written where, and the image's id
//
// Run is all of them, beside what can be done meanwhile.
package build
