// Package chroot runs the processes of a build where neither namespaces nor mounts
// are possible: inside a container without capabilities, such as a pod or a CI job.
//
// A process sees the files of its root file system because every system call that
// names a path is stopped by a seccomp filter (SECCOMP_RET_TRACE) and answered or
// rewritten by a tracer (ptrace(2)): paths are resolved in the root, and mounts are
// translations of paths. User and group ids are emulated too (package fakeid);
// owners are recorded in attributes (package owner). It is what PRoot and fakeroot do
// together, made for builds.
//
// A Sandbox makes what the step sees (layout), and starts this program twice: as the
// supervisor, which traces (trace) and answers (kernel), and as the process that becomes
// the step behind its filter (filter). Paths are translated by a view (view), programs
// copied where the kernel could not execute them (program).
//
// This confines programs that mean no harm. What protects the machine is the
// container that builder itself runs in.
package chroot
