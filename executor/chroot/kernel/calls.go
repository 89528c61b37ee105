package kernel

import (
	"golang.org/x/sys/unix"
)

// answers are those to the system calls that stop, by number.
func answers() map[int]answer {
	all := map[int]answer{
		unix.SYS_OPENAT:    func(c *call) (int64, error) { return c.doOpen(c.FD(0), 1, 2) },
		unix.SYS_EXECVE:    (*call).execve,
		unix.SYS_EXECVEAT:  (*call).execveat,
		unix.SYS_CHDIR:     func(c *call) (int64, error) { return c.rewrite(atCwd, 0, true) },
		unix.SYS_CHROOT:    (*call).doChroot,
		unix.SYS_GETCWD:    (*call).doGetcwd,
		unix.SYS_MKDIRAT:   func(c *call) (int64, error) { return c.doMkdir(c.FD(0), 1) },
		unix.SYS_MKNODAT:   func(c *call) (int64, error) { return c.doMknod(c.FD(0), 1) },
		unix.SYS_UNLINKAT:  func(c *call) (int64, error) { return c.doUnlink(c.FD(0), 1, c.Flags(2)) },
		unix.SYS_RENAMEAT2: func(c *call) (int64, error) { return c.doRename(c.FD(0), 1, c.FD(2), 3, uint(c.Flags(4))) },
		unix.SYS_LINKAT:    func(c *call) (int64, error) { return c.doLink(c.FD(0), 1, c.FD(2), 3, c.Flags(4)) },
		unix.SYS_SYMLINKAT: func(c *call) (int64, error) { return c.doSymlink(0, c.FD(1), 2) },
		unix.SYS_READLINKAT: func(c *call) (int64, error) {
			return c.doReadlink(c.FD(0), 1, 2, 3)
		},
		unix.SYS_FACCESSAT:  func(c *call) (int64, error) { return c.doAccess(c.FD(0), 1, 2, 0) },
		unix.SYS_FACCESSAT2: func(c *call) (int64, error) { return c.doAccess(c.FD(0), 1, 2, c.Flags(3)) },
		unix.SYS_STATX:      (*call).doStatx,
		unix.SYS_FSTAT:      (*call).doFstat,
		unix.SYS_FCHOWNAT:   func(c *call) (int64, error) { return c.doChown(c.FD(0), 1, 2, c.Flags(4)) },
		unix.SYS_FCHOWN:     (*call).doFchown,
		unix.SYS_FCHMODAT:   func(c *call) (int64, error) { return c.doChmod(c.FD(0), 1, c.id(2), 0) },
		unix.SYS_FCHMODAT2:  func(c *call) (int64, error) { return c.doChmod(c.FD(0), 1, c.id(2), c.Flags(3)) },
		unix.SYS_FCHMOD:     (*call).doFchmod,
		unix.SYS_UTIMENSAT:  (*call).doUtimensat,
		unix.SYS_TRUNCATE:   (*call).doTruncate,
		unix.SYS_STATFS:     (*call).doStatfs,
		unix.SYS_INOTIFY_ADD_WATCH: func(c *call) (int64, error) {
			return c.rewrite(atCwd, 1, c.Flags(2)&unix.IN_DONT_FOLLOW == 0)
		},
		unix.SYS_BIND:              func(c *call) (int64, error) { return c.doAddress(false) },
		unix.SYS_CONNECT:           func(c *call) (int64, error) { return c.doAddress(true) },
		unix.SYS_KILL:              (*call).doKill,
		unix.SYS_TKILL:             ownProcess,
		unix.SYS_TGKILL:            ownProcess,
		unix.SYS_PIDFD_OPEN:        ownProcess,
		unix.SYS_RT_SIGQUEUEINFO:   ownProcess,
		unix.SYS_RT_TGSIGQUEUEINFO: ownProcess,
		unix.SYS_PRLIMIT64:         ownProcess,
		unix.SYS_PRCTL:             (*call).doPrctl,
		unix.SYS_UNAME:             (*call).doUname,
	}
	for _, more := range []map[int]answer{idCalls(), attributeCalls(), legacyCalls()} {
		for nr, h := range more {
			all[nr] = h
		}
	}
	return all
}

func attributeCalls() map[int]answer {
	on := func(f func(*call, attrTarget) (int64, error), how attrTarget) answer {
		return func(c *call) (int64, error) { return f(c, how) }
	}
	return map[int]answer{
		unix.SYS_SETXATTR:     on((*call).doSetxattr, attrFollow),
		unix.SYS_LSETXATTR:    on((*call).doSetxattr, attrNoFollow),
		unix.SYS_FSETXATTR:    on((*call).doSetxattr, attrDescriptor),
		unix.SYS_GETXATTR:     on((*call).doGetxattr, attrFollow),
		unix.SYS_LGETXATTR:    on((*call).doGetxattr, attrNoFollow),
		unix.SYS_FGETXATTR:    on((*call).doGetxattr, attrDescriptor),
		unix.SYS_LISTXATTR:    on((*call).doListxattr, attrFollow),
		unix.SYS_LLISTXATTR:   on((*call).doListxattr, attrNoFollow),
		unix.SYS_FLISTXATTR:   on((*call).doListxattr, attrDescriptor),
		unix.SYS_REMOVEXATTR:  on((*call).doRemovexattr, attrFollow),
		unix.SYS_LREMOVEXATTR: on((*call).doRemovexattr, attrNoFollow),
		unix.SYS_FREMOVEXATTR: on((*call).doRemovexattr, attrDescriptor),
	}
}
