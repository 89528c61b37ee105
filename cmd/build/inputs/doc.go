// Package inputs finds what a command line names for a build to read on this machine and
// elsewhere: the context and the Dockerfile, named contexts, secrets, ssh agents.
package inputs
