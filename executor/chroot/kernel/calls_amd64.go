package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/trace"
)

// legacyCalls are the calls that newer machines have newer forms of only.
func legacyCalls() map[int]answer {
	return map[int]answer{
		unix.SYS_OPEN:       func(c *call) (int64, error) { return c.doOpen(atCwd, 0, 1) },
		unix.SYS_CREAT:      (*call).doCreat,
		unix.SYS_NEWFSTATAT: func(c *call) (int64, error) { return c.doStat(c.FD(0), 1, 2, c.Flags(3)) },
		unix.SYS_STAT:       func(c *call) (int64, error) { return c.doStat(atCwd, 0, 1, 0) },
		unix.SYS_LSTAT:      func(c *call) (int64, error) { return c.doStat(atCwd, 0, 1, unix.AT_SYMLINK_NOFOLLOW) },
		unix.SYS_ACCESS:     func(c *call) (int64, error) { return c.doAccess(atCwd, 0, 1, 0) },
		unix.SYS_MKDIR:      func(c *call) (int64, error) { return c.doMkdir(atCwd, 0) },
		unix.SYS_MKNOD:      func(c *call) (int64, error) { return c.doMknod(atCwd, 0) },
		unix.SYS_RMDIR:      func(c *call) (int64, error) { return c.doUnlink(atCwd, 0, unix.AT_REMOVEDIR) },
		unix.SYS_UNLINK:     func(c *call) (int64, error) { return c.doUnlink(atCwd, 0, 0) },
		unix.SYS_RENAME:     func(c *call) (int64, error) { return c.doRename(atCwd, 0, atCwd, 1, 0) },
		unix.SYS_RENAMEAT:   func(c *call) (int64, error) { return c.doRename(c.FD(0), 1, c.FD(2), 3, 0) },
		unix.SYS_LINK:       func(c *call) (int64, error) { return c.doLink(atCwd, 0, atCwd, 1, 0) },
		unix.SYS_SYMLINK:    func(c *call) (int64, error) { return c.doSymlink(0, atCwd, 1) },
		unix.SYS_READLINK:   func(c *call) (int64, error) { return c.doReadlink(atCwd, 0, 1, 2) },
		unix.SYS_CHMOD:      func(c *call) (int64, error) { return c.doChmod(atCwd, 0, c.id(1), 0) },
		unix.SYS_CHOWN:      func(c *call) (int64, error) { return c.doChown(atCwd, 0, 1, 0) },
		unix.SYS_LCHOWN:     func(c *call) (int64, error) { return c.doChown(atCwd, 0, 1, unix.AT_SYMLINK_NOFOLLOW) },
		unix.SYS_UTIME:      (*call).doUtime,
		unix.SYS_UTIMES:     func(c *call) (int64, error) { return c.doUtimes(atCwd, 0) },
		unix.SYS_FUTIMESAT:  func(c *call) (int64, error) { return c.doUtimes(c.FD(0), 1) },
		unix.SYS_USELIB:     func(*call) (int64, error) { return 0, unix.ENOSYS },
	}
}

// doCreat becomes open(2).
func (c *call) doCreat() (int64, error) {
	c.Reg.SetArg(2, c.Reg.Arg(1))
	c.Reg.SetArg(1, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC)
	v, err := c.doOpen(atCwd, 0, 1)
	if err == trace.ErrChanged {
		_ = c.Reg.SetNumber(c.Task.TID, unix.SYS_OPEN)
	}
	return v, err
}

func (c *call) doUtime() (int64, error) {
	var ts []unix.Timespec
	if c.Reg.Arg(1) != 0 {
		var t [2]int64
		if err := ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(1), structBytes(&t)); err != nil {
			return 0, err
		}
		ts = []unix.Timespec{{Sec: t[0]}, {Sec: t[1]}}
	}
	return c.doTimes(atCwd, 0, ts, 0)
}

func (c *call) doUtimes(dirfd, at int) (int64, error) {
	var ts []unix.Timespec
	if c.Reg.Arg(at+1) != 0 {
		var t [2]unix.Timeval
		if err := ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(at+1), unsafe.Slice((*byte)(unsafe.Pointer(&t)), unsafe.Sizeof(t))); err != nil {
			return 0, err
		}
		ts = []unix.Timespec{unix.NsecToTimespec(t[0].Nano()), unix.NsecToTimespec(t[1].Nano())}
	}
	return c.doTimes(dirfd, at, ts, 0)
}
