// Package emulate answers the system calls of a container's processes that cannot
// work in a user namespace with a single id: changes of owners and of credentials,
// and device nodes. A seccomp filter hands them over (seccomp_unotify(2)); what they
// were meant to do is recorded (package owner for files, package fakeid for
// processes), and whoever asks is told what is recorded.
//
// This is emulation, and no boundary: between the look at a process's memory and the
// act another thread may change it. All that a process can win by that is what it may
// do anyway. The kernel enforces with the real credentials, and here everything is
// done with the rights of the same user, in the container's own mount namespace and
// root.
package emulate
