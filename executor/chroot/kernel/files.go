package kernel

import (
	"errors"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/chroot/view"
)

// atCwd is the directory of calls that have no other.
const atCwd = unix.AT_FDCWD

// changeable is place for calls that change it.
func (c *call) changeable(dirfd, i int, follow bool) (view.Place, error) {
	p, err := c.place(dirfd, i, follow)
	if err == nil && p.ReadOnly {
		err = unix.EROFS
	}
	return p, err
}

func (c *call) doOpen(dirfd, at, flagsAt int) (int64, error) {
	flags := c.Flags(flagsAt)
	exclusive := flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL
	p, err := c.place(dirfd, at, flags&unix.O_NOFOLLOW == 0 && !exclusive)
	if err != nil {
		return 0, err
	}
	created := false
	if flags&unix.O_CREAT != 0 {
		var st unix.Stat_t
		created = unix.Lstat(p.Host, &st) == unix.ENOENT
	}
	if p.ReadOnly && flags&unix.O_PATH == 0 && (flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 || created) {
		return 0, unix.EROFS
	}
	temporary := flags&unix.O_TMPFILE == unix.O_TMPFILE
	switch {
	case created:
		err = c.permitEntry(p.Host, false)
	case temporary:
		err = c.permit(p.Host, unix.W_OK|unix.X_OK)
	default:
		err = c.permitOpen(p.Host, flags)
	}
	if err != nil {
		return 0, err
	}
	if err := c.SetPath(at, p.Host); err != nil {
		return 0, err
	}
	if created || temporary {
		dir := path.Dir(p.Host)
		if temporary {
			dir = p.Host
		}
		c.Task.After = c.madeFile(dir)
	}
	return 0, trace.ErrChanged
}

// madeFile gives a file that open(2) makes its owner, and its reader access.
func (c *call) madeFile(dir string) func(*trace.Call) {
	uid, gid := c.newOwner(dir)
	return func(end *trace.Call) {
		if fd := end.Reg.Result(); fd >= 0 {
			c.kernel.made(descriptorPath(end.Task.PID, int(fd)), uid, gid)
		}
	}
}

func (c *call) doMkdir(dirfd, at int) (int64, error) {
	p, err := c.changeable(dirfd, at, false)
	if err != nil {
		return 0, err
	}
	if c.kernel.view.IsPoint(p.Guest) {
		return 0, unix.EEXIST
	}
	host := trimSlash(p.Host)
	return c.makes(at, host)
}

func trimSlash(p string) string {
	for len(p) > 1 && p[len(p)-1] == '/' {
		p = p[:len(p)-1]
	}
	return p
}

// makes lets the thread make an object, which then gets its owner.
func (c *call) makes(at int, host string) (int64, error) {
	if err := c.permitEntry(host, false); err != nil {
		var st unix.Stat_t
		if unix.Lstat(host, &st) == nil {
			err = unix.EEXIST
		}
		return 0, err
	}
	if err := c.SetPath(at, host); err != nil {
		return 0, err
	}
	uid, gid := c.newOwner(path.Dir(host))
	c.Task.After = func(end *trace.Call) {
		if end.Reg.Result() == 0 {
			c.kernel.made(host, uid, gid)
		}
	}
	return 0, trace.ErrChanged
}

func (c *call) doMknod(dirfd, at int) (int64, error) {
	p, err := c.changeable(dirfd, at, false)
	if err != nil {
		return 0, err
	}
	mode := uint32(c.Reg.Arg(at + 1))
	if kind := mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		return 0, c.makeDevice(p.Host, mode, c.Reg.Arg(at+2))
	}
	return c.makes(at, p.Host)
}

func (c *call) doUnlink(dirfd, at, flags int) (int64, error) {
	p, err := c.changeable(dirfd, at, false)
	if err != nil {
		return 0, err
	}
	if c.kernel.view.IsPoint(p.Guest) {
		return 0, unix.EBUSY
	}
	if err := c.permitEntry(p.Host, true); err != nil {
		return 0, err
	}
	return 0, unix.Unlinkat(unix.AT_FDCWD, p.Host, flags)
}

func (c *call) doRename(fromDir, from, toDir, to int, flags uint) (int64, error) {
	p, err := c.changeable(fromDir, from, false)
	if err != nil {
		return 0, err
	}
	q, err := c.changeable(toDir, to, false)
	if err != nil {
		return 0, err
	}
	if v := &c.kernel.view; v.IsPoint(p.Guest) || v.IsPoint(q.Guest) {
		return 0, unix.EBUSY
	}
	if err := errors.Join(c.permitEntry(p.Host, true), c.permitEntry(q.Host, true)); err != nil {
		return 0, err
	}
	return 0, unix.Renameat2(unix.AT_FDCWD, p.Host, unix.AT_FDCWD, q.Host, flags)
}

func (c *call) doTruncate() (int64, error) {
	p, err := c.changeable(atCwd, 0, true)
	if err != nil {
		return 0, err
	}
	if err := c.permit(p.Host, unix.W_OK); err != nil {
		return 0, err
	}
	return 0, unix.Truncate(p.Host, int64(c.Reg.Arg(1)))
}

func (c *call) doStatfs() (int64, error) {
	p, err := c.place(atCwd, 0, true)
	if err != nil {
		return 0, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.Host, &st); err != nil {
		return 0, err
	}
	return 0, ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(1), structBytes(&st))
}

func structBytes[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
