// Package confine says what keeps a container's process to itself beside its
// namespaces: the seccomp filter, capabilities, the AppArmor profile, and the paths that
// it does not see or cannot change.
//
// A filter is compiled here, once, and not in every container. A Loader hands it to a
// thread of the container's first process (Receive), which puts it on when the process
// has nothing left to do but to execute the user's program.
package confine
