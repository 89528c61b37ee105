package emulate

import (
	"errors"

	"golang.org/x/sys/unix"
)

// call is a system call that is answered here.
type call struct {
	nr     int
	when   *condition // nil: always
	answer func(*supervisor, *notification) answer
}

// answer is what a system call returns: a value, an error number, or what the kernel
// makes of it itself.
type answer struct {
	val   int64
	errno unix.Errno
	pass  bool // let the kernel do it
	sent  bool // the process has its answer already
}

func returns(v int64) answer     { return answer{val: v} }
func fails(e unix.Errno) answer  { return answer{errno: e} }
func passes() answer             { return answer{pass: true} }
func failsWith(err error) answer { return fails(errnoOf(err)) }

// failsWithAny is failsWith for an error that may be wrapped, or nil.
func failsWithAny(err error) answer {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fails(errno)
	}
	return failsWith(err)
}

// calls are all that every architecture has, and this one's own.
func calls() []call {
	return append(archCalls(),
		call{unix.SYS_GETUID, nil, (*supervisor).getuid},
		call{unix.SYS_GETEUID, nil, (*supervisor).geteuid},
		call{unix.SYS_GETGID, nil, (*supervisor).getgid},
		call{unix.SYS_GETEGID, nil, (*supervisor).getegid},
		call{unix.SYS_GETRESUID, nil, (*supervisor).getresuid},
		call{unix.SYS_GETRESGID, nil, (*supervisor).getresgid},
		call{unix.SYS_GETGROUPS, nil, (*supervisor).getgroups},
		call{unix.SYS_SETUID, nil, (*supervisor).setuid},
		call{unix.SYS_SETGID, nil, (*supervisor).setgid},
		call{unix.SYS_SETREUID, nil, (*supervisor).setreuid},
		call{unix.SYS_SETREGID, nil, (*supervisor).setregid},
		call{unix.SYS_SETRESUID, nil, (*supervisor).setresuid},
		call{unix.SYS_SETRESGID, nil, (*supervisor).setresgid},
		call{unix.SYS_SETFSUID, nil, (*supervisor).setfsuid},
		call{unix.SYS_SETFSGID, nil, (*supervisor).setfsgid},
		call{unix.SYS_SETGROUPS, nil, (*supervisor).setgroups},
		call{unix.SYS_EXECVE, nil, (*supervisor).execve},
		call{unix.SYS_EXECVEAT, nil, (*supervisor).execveat},
		call{unix.SYS_PRCTL, &condition{arg: 0, values: []uint32{unix.PR_SET_KEEPCAPS, unix.PR_SET_SECUREBITS}}, (*supervisor).prctl},
		call{unix.SYS_PRLIMIT64, &condition{arg: 1, values: []uint32{rlimit}}, (*supervisor).prlimit},
		call{unix.SYS_CHROOT, nil, (*supervisor).chroot},

		call{unix.SYS_FCHOWN, nil, (*supervisor).fchown},
		call{unix.SYS_FCHOWNAT, nil, (*supervisor).fchownat},
		call{unix.SYS_FSTAT, nil, (*supervisor).fstat},
		call{unix.SYS_NEWFSTATAT, nil, (*supervisor).fstatat},
		call{unix.SYS_STATX, nil, (*supervisor).statx},

		call{unix.SYS_OPENAT, &condition{arg: 2, bits: creates}, (*supervisor).openat},
		call{unix.SYS_MKDIRAT, nil, (*supervisor).mkdirat},
		call{unix.SYS_MKNODAT, nil, (*supervisor).mknodat},
		call{unix.SYS_SYMLINKAT, nil, (*supervisor).symlinkat},

		call{unix.SYS_GETSOCKOPT, &condition{arg: 2, values: []uint32{unix.SO_PEERCRED}}, (*supervisor).peerCredentials},
	)
}

// creates are the flags of open(2) with which it may make a file. O_TMPFILE includes
// O_DIRECTORY, which alone makes none.
const creates = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY
