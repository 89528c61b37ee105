package owner

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Read returns what is recorded of the object at path, which is not followed; false
// if there is no record, or one that makes no sense.
func Read(path string) (Stat, bool, error) {
	var buf [96]byte
	n, err := unix.Lgetxattr(path, Xattr, buf[:])
	return found(buf[:max(n, 0)], err)
}

func found(b []byte, err error) (Stat, bool, error) {
	switch {
	case err == nil:
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ERANGE):
		return Stat{}, false, nil
	default:
		return Stat{}, false, fmt.Errorf("read recorded owner: %w", err)
	}
	s, err := Parse(string(b))
	return s, err == nil, nil
}

// Write records s at path, which is not followed. Symlinks, fifos and sockets
// cannot carry a record: they are left alone.
func Write(path string, s Stat) error {
	return written(unix.Lsetxattr(path, Xattr, []byte(s.String()), 0))
}

// WriteFd is Write for an open file, which must not be one opened with O_PATH.
func WriteFd(fd int, s Stat) error {
	return written(unix.Fsetxattr(fd, Xattr, []byte(s.String()), 0))
}

func written(err error) error {
	if err == nil || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		return nil // not a type of file, or not a file system, that keeps any
	}
	return fmt.Errorf("record owner: %w", err)
}

// Remove takes the record at path away.
func Remove(path string) error {
	err := unix.Lremovexattr(path, Xattr)
	if err == nil || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return fmt.Errorf("remove recorded owner: %w", err)
}

// Lchown gives the object at path, which is not followed, an owner: really, or by a
// record where this process is Emulated.
func Lchown(path string, uid, gid uint32) error {
	if !Emulated() {
		return unix.Lchown(path, int(uid), int(gid))
	}
	return Record(path, uid, gid)
}

// Record records an owner for what is at path as it is, keeping a recorded type.
// What belongs to 0:0 has no record unless it is a device.
func Record(path string, uid, gid uint32) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	old, had, err := Read(path)
	if err != nil {
		return err
	}
	s, needed := old.Owned(&st, uid, gid)
	switch {
	case needed:
		return Write(path, s)
	case had:
		return Remove(path)
	}
	return nil
}

// Owned returns the record that a file, which has the record s (or none) and of
// which stat(2) says st, needs to belong to somebody; false if it needs none. A
// recorded device stays one.
func (s Stat) Owned(st *unix.Stat_t, uid, gid uint32) (Stat, bool) {
	n := Stat{UID: uid, GID: gid, Mode: st.Mode}
	if s.IsDevice() && st.Mode&unix.S_IFMT == unix.S_IFREG {
		n.Mode, n.Dev = s.Mode&unix.S_IFMT|st.Mode&0o7777, s.Dev
	}
	return n, uid != 0 || gid != 0 || n.IsDevice()
}

// IsDevice reports whether the record makes a regular file a device.
func (s Stat) IsDevice() bool {
	kind := s.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// Apply makes st, of the file that carries the record, say what the record says.
func (s Stat) Apply(st *unix.Stat_t) {
	st.Uid, st.Gid = s.UID, s.GID
	if s.IsDevice() && st.Mode&unix.S_IFMT == unix.S_IFREG {
		st.Mode = s.Mode&unix.S_IFMT | st.Mode&0o7777
		st.Rdev = s.Dev
		st.Size, st.Blocks = 0, 0
	}
}
