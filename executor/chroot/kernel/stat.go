package kernel

import (
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/snapshot/owner"
)

// stat describes an object with the owner and the mode that it is meant to have.
func (k *Kernel) stat(host string, follow bool) (unix.Stat_t, error) {
	var st unix.Stat_t
	var err error
	if follow {
		err = unix.Stat(host, &st)
	} else {
		err = unix.Lstat(host, &st)
	}
	if err != nil {
		return st, err
	}
	return st, k.apply(&st, host)
}

// apply makes st, of what following host leads to if it is no symlink, say what is
// recorded. What belongs to this process is root's.
func (k *Kernel) apply(st *unix.Stat_t, host string) error {
	if int(st.Uid) == k.uid {
		st.Uid = 0
	}
	if int(st.Gid) == k.gid {
		st.Gid = 0
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	owner.ApplyMode(host, st)
	rec, ok, err := owner.ReadFollow(host)
	if ok {
		rec.Apply(st)
	}
	return err
}

func (c *call) doStat(dirfd, at, buf, flags int) (int64, error) {
	p, err := c.object(dirfd, at, flags)
	if err != nil {
		return 0, err
	}
	return c.giveStat(p.Host, flags&unix.AT_SYMLINK_NOFOLLOW == 0 || isDescriptor(p.Host), buf)
}

func (c *call) giveStat(host string, follow bool, buf int) (int64, error) {
	st, err := c.kernel.stat(host, follow)
	if err != nil {
		return 0, err
	}
	return 0, ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(buf), structBytes(&st))
}

func (c *call) doFstat() (int64, error) {
	v, err := c.giveStat(descriptorPath(c.Task.PID, c.FD(0)), true, 1)
	if err == unix.ENOENT {
		err = unix.EBADF
	}
	return v, err
}

func (c *call) doStatx() (int64, error) {
	flags := c.Flags(2)
	if c.Reg.Arg(1) == 0 {
		flags |= unix.AT_EMPTY_PATH
	}
	p, err := c.object(c.FD(0), 1, flags)
	if err != nil {
		return 0, err
	}
	host := flags &^ unix.AT_EMPTY_PATH
	if isDescriptor(p.Host) {
		host &^= unix.AT_SYMLINK_NOFOLLOW
	}
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, p.Host, host, c.Flags(3), &stx); err != nil {
		return 0, err
	}
	st := unix.Stat_t{Uid: stx.Uid, Gid: stx.Gid, Mode: uint32(stx.Mode), Rdev: unix.Mkdev(stx.Rdev_major, stx.Rdev_minor)}
	if err := c.kernel.apply(&st, p.Host); err != nil {
		return 0, err
	}
	if uint32(stx.Mode)&unix.S_IFMT != st.Mode&unix.S_IFMT {
		stx.Size, stx.Blocks = 0, 0
	}
	stx.Uid, stx.Gid, stx.Mode = st.Uid, st.Gid, uint16(st.Mode)
	stx.Rdev_major, stx.Rdev_minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	return 0, ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(4), structBytes(&stx))
}
