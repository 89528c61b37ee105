package kernel

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// permit decides as the kernel would if the ids of the step were real: its users
// other than root do what modes and recorded owners let them. The directories on the
// way are not looked at.
func (c *call) permit(host string, want uint32) error {
	if c.Task.Creds.UID.FS == 0 {
		return nil
	}
	st, err := c.kernel.stat(host, true)
	if err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR || strings.HasPrefix(host, "/proc/") {
		return nil // the kernel decides about what is not the step's
	}
	bits := st.Mode & 7
	switch {
	case c.Task.Creds.UID.FS == st.Uid:
		bits = st.Mode >> 6 & 7
	case c.Task.Creds.In(st.Gid):
		bits = st.Mode >> 3 & 7
	}
	if want&^bits != 0 {
		return unix.EACCES
	}
	return nil
}

// permitEntry is permit for making an entry of a directory, or taking one away,
// which only its owner or the directory's may do if the directory is sticky.
func (c *call) permitEntry(host string, takeAway bool) error {
	if c.Task.Creds.UID.FS == 0 {
		return nil
	}
	host = trimSlash(host)
	dir := path.Dir(host)
	if err := c.permit(dir, unix.W_OK|unix.X_OK); err != nil || !takeAway {
		return err
	}
	parent, err := c.kernel.stat(dir, true)
	if err != nil || parent.Mode&unix.S_ISVTX == 0 || parent.Uid == c.Task.Creds.UID.FS {
		return err
	}
	st, err := c.kernel.stat(host, false)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil && st.Uid != c.Task.Creds.UID.FS {
		err = unix.EPERM
	}
	return err
}

// permitOpen is permit for open(2) of what exists.
func (c *call) permitOpen(host string, flags int) error {
	if c.Task.Creds.UID.FS == 0 || flags&unix.O_PATH != 0 || isDescriptor(host) {
		return nil
	}
	want := uint32(unix.R_OK)
	switch flags & unix.O_ACCMODE {
	case unix.O_WRONLY:
		want = unix.W_OK
	case unix.O_RDWR:
		want = unix.R_OK | unix.W_OK
	}
	if flags&unix.O_TRUNC != 0 {
		want |= unix.W_OK
	}
	if err := c.permit(host, want); err != unix.ENOENT {
		return err
	}
	return nil // open(2) says so itself
}

func (c *call) doAccess(dirfd, at, modeAt, flags int) (int64, error) {
	p, err := c.object(dirfd, at, flags)
	if err != nil {
		return 0, err
	}
	mode := uint32(c.Reg.Arg(modeAt))
	st, err := c.kernel.stat(p.Host, flags&unix.AT_SYMLINK_NOFOLLOW == 0 || isDescriptor(p.Host))
	if err != nil {
		return 0, err
	}
	kind := st.Mode & unix.S_IFMT
	if mode&unix.W_OK != 0 && p.ReadOnly && (kind == unix.S_IFREG || kind == unix.S_IFDIR || kind == unix.S_IFLNK) {
		return 0, unix.EROFS
	}
	uid, gid := c.Task.Creds.UID.Real, c.Task.Creds.GID.Real
	if flags&unix.AT_EACCESS != 0 {
		uid, gid = c.Task.Creds.UID.Effective, c.Task.Creds.GID.Effective
	}
	bits := st.Mode & 7
	switch {
	case uid == 0:
		bits = 6
		if kind == unix.S_IFDIR || st.Mode&0o111 != 0 {
			bits = 7
		}
	case uid == st.Uid:
		bits = st.Mode >> 6 & 7
	case gid == st.Gid || c.Task.Creds.In(st.Gid):
		bits = st.Mode >> 3 & 7
	}
	if mode&^bits&7 != 0 {
		return 0, unix.EACCES
	}
	// Of what is not in the root, such as devices, this process decides.
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return 0, unix.Access(p.Host, mode)
	}
	return 0, nil
}
