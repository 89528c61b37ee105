package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/view"
)

// doTimes sets the times of an object; ts is nil for now.
func (c *call) doTimes(dirfd, at int, ts []unix.Timespec, flags int) (int64, error) {
	var p view.Place
	var err error
	if c.Reg.Arg(at) == 0 {
		p, err = c.open(dirfd)
	} else {
		p, err = c.object(dirfd, at, flags)
	}
	if err != nil {
		return 0, err
	}
	if p.ReadOnly {
		return 0, unix.EROFS
	}
	if ts == nil {
		ts = []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	}
	flags &= unix.AT_SYMLINK_NOFOLLOW
	if isDescriptor(p.Host) {
		flags = 0
	}
	return 0, unix.UtimesNanoAt(unix.AT_FDCWD, p.Host, ts, flags)
}

// timespecs reads two times; nil for a null pointer.
func (c *call) timespecs(i int) ([]unix.Timespec, error) {
	if c.Reg.Arg(i) == 0 {
		return nil, nil
	}
	ts := make([]unix.Timespec, 2)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&ts[0])), 2*unsafe.Sizeof(ts[0]))
	return ts, ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(i), b)
}

func (c *call) doUtimensat() (int64, error) {
	ts, err := c.timespecs(2)
	if err != nil {
		return 0, err
	}
	return c.doTimes(c.FD(0), 1, ts, c.Flags(3))
}
