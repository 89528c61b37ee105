package kernel

import (
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/chroot/view"
)

// rewrite lets the thread make a call with a path that is resolved.
func (c *call) rewrite(dirfd, at int, follow bool) (int64, error) {
	p, err := c.place(dirfd, at, follow)
	if err != nil {
		return 0, err
	}
	if err := c.SetPath(at, p.Host); err != nil {
		return 0, err
	}
	return 0, trace.ErrChanged
}

func (c *call) doGetcwd() (int64, error) {
	dir, err := c.viewer().Directory(atCwd)
	if err != nil {
		return 0, err
	}
	switch {
	case dir == c.Task.Root:
		dir = "/"
	case c.Task.Root != "/" && view.Under(dir, c.Task.Root):
		dir = dir[len(c.Task.Root):]
	}
	if uint64(len(dir)) >= c.Reg.Arg(1) {
		return 0, unix.ERANGE
	}
	return int64(len(dir) + 1), ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(0), append([]byte(dir), 0))
}

func (c *call) doChroot() (int64, error) {
	if !c.Task.Creds.IsRoot() {
		return 0, unix.EPERM
	}
	p, err := c.place(atCwd, 0, true)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Stat(p.Host, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, unix.ENOTDIR
	}
	c.Task.Root = p.Guest
	return 0, nil
}
