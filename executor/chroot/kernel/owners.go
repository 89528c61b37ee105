package kernel

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/snapshot/owner"
)

// newOwner is what an object gets that the thread makes in a directory.
func (c *call) newOwner(dir string) (uid, gid uint32) {
	uid, gid = c.Task.Creds.UID.FS, c.Task.Creds.GID.FS
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil && st.Mode&unix.S_ISGID != 0 {
		if c.kernel.apply(&st, dir) == nil {
			gid = st.Gid
		}
	}
	return uid, gid
}

// made completes a new object: it is recorded whose it is, and its owner on disk,
// who is this process, is let in.
func (k *Kernel) made(host string, uid, gid uint32) {
	var st unix.Stat_t
	if unix.Stat(host, &st) != nil {
		return
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return
	}
	if owner.Widen(st.Mode) != st.Mode {
		_ = owner.Chmod(host, st.Mode)
	}
	if uid != 0 || gid != 0 {
		_ = owner.WriteFollow(host, owner.Stat{UID: uid, GID: gid, Mode: st.Mode})
	}
}

// makeDevice makes what stands for a device.
func (c *call) makeDevice(host string, mode uint32, dev uint64) error {
	if !c.Task.Creds.IsRoot() {
		return unix.EPERM
	}
	perm := mode & 0o7777 &^ c.umask()
	if err := unix.Mknod(host, unix.S_IFREG|perm|0o600, 0); err != nil {
		return err
	}
	if err := owner.Chmod(host, unix.S_IFREG|perm); err != nil {
		return err
	}
	uid, gid := c.newOwner(parentOf(host))
	return owner.WriteFollow(host, owner.Stat{UID: uid, GID: gid, Mode: mode&unix.S_IFMT | perm, Dev: dev})
}

func parentOf(host string) string { return host[:max(strings.LastIndexByte(host, '/'), 1)] }

// umask reads what the thread's file mode creation mask is.
func (c *call) umask() uint32 {
	b, _ := os.ReadFile("/proc/" + itoa(c.Task.TID) + "/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:\t"); ok {
			return parseOctal(strings.TrimSpace(v))
		}
	}
	return 0o022
}

func parseOctal(s string) (n uint32) {
	for _, c := range s {
		n = n<<3 | uint32(c-'0')&7
	}
	return n
}

// changeOwner is chown(2) of what host names.
func (c *call) changeOwner(p view.Place, follow bool, uid, gid uint32) error {
	if p.ReadOnly {
		return unix.EROFS
	}
	var raw unix.Stat_t
	var err error
	if follow {
		err = unix.Stat(p.Host, &raw)
	} else {
		err = unix.Lstat(p.Host, &raw)
	}
	if err != nil {
		return err
	}
	st := raw
	if err := c.kernel.apply(&st, p.Host); err != nil {
		return err
	}
	newUID, newGID, err := c.Task.Creds.Chown(st.Uid, st.Gid, uid, gid)
	if err != nil {
		return err
	}
	kind := raw.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil // cannot carry a record
	}
	if kind == unix.S_IFREG && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 && st.Mode&0o111 != 0 {
		if err := owner.Chmod(p.Host, st.Mode&^(unix.S_ISUID|unix.S_ISGID)|unix.S_IFREG); err != nil {
			return err
		}
	}
	rec := owner.Stat{UID: newUID, GID: newGID, Mode: st.Mode, Dev: st.Rdev}
	if newUID == 0 && newGID == 0 && !rec.IsDevice() {
		return owner.RemoveFollow(p.Host)
	}
	return owner.WriteFollow(p.Host, rec)
}

func (c *call) doChown(dirfd, at, uid, flags int) (int64, error) {
	p, err := c.object(dirfd, at, flags)
	if err != nil {
		return 0, err
	}
	follow := flags&unix.AT_SYMLINK_NOFOLLOW == 0 || isDescriptor(p.Host)
	return 0, c.changeOwner(p, follow, uint32(c.Reg.Arg(uid)), uint32(c.Reg.Arg(uid+1)))
}

func (c *call) doFchown() (int64, error) {
	p, err := c.open(c.FD(0))
	if err != nil {
		return 0, err
	}
	p.ReadOnly = false // it is open
	return 0, c.changeOwner(p, true, uint32(c.Reg.Arg(1)), uint32(c.Reg.Arg(2)))
}

func (c *call) changeMode(p view.Place, mode uint32) error {
	if p.ReadOnly {
		return unix.EROFS
	}
	st, err := c.kernel.stat(p.Host, true)
	if err != nil {
		return err
	}
	if fs := c.Task.Creds.UID.FS; fs != 0 && fs != st.Uid {
		return unix.EPERM
	}
	var raw unix.Stat_t
	if err := unix.Stat(p.Host, &raw); err != nil {
		return err
	}
	return owner.Chmod(p.Host, raw.Mode&unix.S_IFMT|mode&0o7777)
}

func (c *call) doChmod(dirfd, at int, mode uint32, flags int) (int64, error) {
	p, err := c.object(dirfd, at, flags)
	if err != nil {
		return 0, err
	}
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 && !isDescriptor(p.Host) {
		var st unix.Stat_t
		if unix.Lstat(p.Host, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return 0, unix.EOPNOTSUPP
		}
	}
	return 0, c.changeMode(p, mode)
}

func (c *call) doFchmod() (int64, error) {
	p, err := c.open(c.FD(0))
	if err != nil {
		return 0, err
	}
	p.ReadOnly = false // it is open
	return 0, c.changeMode(p, uint32(c.Reg.Arg(1)))
}
