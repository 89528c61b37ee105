// Package runc runs processes in containers with libcontainer, in-process.
//
// A Sandbox is the machine's part, a run that of one process: it takes a thread with
// namespaces of its own (thread, userns), makes the network (network, netstack), the
// root file system (rootfs) and the cgroups (cgroup), starts the container, confines its
// process (confine) and looks at it until it ends (watch).
//
// A program that uses it must call Init first thing in main (and in TestMain):
// the container's first process is this same binary, started again.
package runc
