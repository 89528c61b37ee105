// rootless_try_trace has a process of its own trace another one with a seccomp
// filter, as package chroot does. It returns 0 or an errno; in the latter case
// *filter says that the filter was refused, not ptrace(2).
int rootless_try_trace(int *filter);
