package filter

import "golang.org/x/sys/unix"

// refusedCalls would lead around the tracer, or out of the step.
func refusedCalls() map[int]unix.Errno {
	out := map[int]unix.Errno{
		unix.SYS_CLONE3: unix.ENOSYS, unix.SYS_OPENAT2: unix.ENOSYS,
		unix.SYS_IO_URING_SETUP: unix.ENOSYS, unix.SYS_IO_URING_ENTER: unix.ENOSYS, unix.SYS_IO_URING_REGISTER: unix.ENOSYS,
		unix.SYS_NAME_TO_HANDLE_AT: unix.EOPNOTSUPP, unix.SYS_FANOTIFY_MARK: unix.ENOSYS, unix.SYS_FANOTIFY_INIT: unix.ENOSYS,
	}
	for _, nr := range []int{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
		unix.SYS_QUOTACTL_FD, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
		unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_PROCESS_MADVISE,
	} {
		out[nr] = unix.EPERM
	}
	for nr := unix.SYS_FCHMODAT2 + 1; nr <= lastCall; nr++ {
		out[nr] = unix.ENOSYS // newer than this list; some take paths
	}
	delete(out, unix.SYS_FCHMODAT2)
	return out
}

// lastCall is a number above those of all system calls there are.
const lastCall = 480
