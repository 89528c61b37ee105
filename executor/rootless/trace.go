package rootless

// #include "trace.h"
import "C"

import (
	"fmt"
	"os"
	"syscall"
)

// chrootWay tries whether steps can be traced, which takes a few milliseconds.
func chrootWay() (Way, error) {
	var filter C.int
	errno := syscall.Errno(C.rootless_try_trace(&filter))
	switch {
	case errno == 0:
		return Way{Isolation: Chroot}, nil
	case filter != 0:
		return Way{}, &Lack{Chroot, fmt.Sprintf("no seccomp filter can be installed (%v)", errno), "use a kernel with CONFIG_SECCOMP_FILTER, and a seccomp profile that allows seccomp(2), such as docker's default one"}
	}
	return Way{}, traceLack(errno)
}

// traceLack says why ptrace(2) is refused.
func traceLack(errno syscall.Errno) *Lack {
	scope, _ := setting("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case scope == "3": // which can only be changed by booting
		return &Lack{Chroot, "kernel.yama.ptrace_scope is 3, which forbids ptrace(2)", "set kernel.yama.ptrace_scope=1 in /etc/sysctl.d on the machine, and boot it"}
	case scope == "2" && !mayTrace():
		return &Lack{Chroot, "kernel.yama.ptrace_scope is 2, which forbids ptrace(2) without CAP_SYS_PTRACE", "sudo sysctl -w kernel.yama.ptrace_scope=1"}
	case unreadable():
		return &Lack{Chroot, "this user may not read the program's file, so that its processes cannot be traced", "chmod a+r " + os.Args[0]}
	}
	return &Lack{Chroot, fmt.Sprintf("the container's seccomp profile, or a security module, forbids ptrace(2) (%v)", errno), "give the container docker's default seccomp profile (docker 19.03 or newer, Linux 4.8 or newer), or any that allows ptrace"}
}

// unreadable reports whether the program may be executed, but not read.
func unreadable() bool {
	f, err := os.Open("/proc/self/exe")
	if err == nil {
		f.Close()
	}
	return err != nil
}
