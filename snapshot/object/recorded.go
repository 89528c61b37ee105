package object

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/owner"
)

// lchown gives an object its owner. Where owners are recorded, those of symlinks
// and fifos are in the layer's manifest and tar only: they cannot carry a record.
func (m *Maker) lchown(path string, uid, gid uint32) error {
	if m.recorded {
		return owner.Record(path, uid, gid)
	}
	return unix.Lchown(path, int(uid), int(gid))
}

// fchown is lchown for a new regular file.
func (m *Maker) fchown(fd int, e *manifest.Entry) error {
	if m.recorded {
		return owner.WriteFd(fd, owner.Stat{UID: e.UID, GID: e.GID, Mode: unix.S_IFREG | e.Mode&0o7777})
	}
	return unix.Fchown(fd, int(e.UID), int(e.GID))
}

// makeRecordedDevice makes what stands for a device.
func makeRecordedDevice(path string, s owner.Stat) error {
	if err := unix.Mknod(path, unix.S_IFREG|0o600, 0); err != nil {
		return err
	}
	if err := owner.Write(path, s); err != nil {
		return errors.Join(err, unix.Unlink(path))
	}
	return nil
}

// Describe describes the object at path, of which lstat says st, as its layer shows it,
// and reports whether overlay marks it as an opaque directory. Path and links are
// the caller's.
func (m *Maker) Describe(path string, st *unix.Stat_t) (manifest.Entry, bool, error) {
	s := *st
	if err := m.applyRecord(path, &s); err != nil {
		return manifest.Entry{}, false, err
	}
	e := StatEntry(&s)
	if e.Type == manifest.TypeWhiteout || e.Type == manifest.TypeSocket {
		return e, false, nil
	}
	var opaque bool
	var err error
	e.Xattrs, opaque, err = ReadXattrs(path)
	return e, opaque, err
}

// Recording reports whether owners and devices are recorded instead of set.
func (m *Maker) Recording() bool { return m.recorded }

// applyRecord makes st say what is recorded at path. What has no record is root's, where
// owners are recorded; in a user namespace devices are.
func (m *Maker) applyRecord(path string, st *unix.Stat_t) error {
	if !m.recorded && !m.inUserns || IsWhiteout(st) {
		return nil
	}
	uid, gid := st.Uid, st.Gid
	if m.recorded {
		uid, gid = 0, 0
	}
	st.Uid, st.Gid = uid, gid
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && (kind != unix.S_IFDIR || !m.recorded) {
		return nil
	}
	if m.confined {
		owner.ApplyMode(path, st)
	}
	rec, ok, err := owner.Read(path)
	switch {
	case ok && m.recorded:
		rec.Apply(st)
	case ok && rec.IsDevice():
		rec.UID, rec.GID = uid, gid
		rec.Apply(st)
	}
	return err
}

// ForProcesses returns the maker of files that emulated processes work on (package
// executor/chroot): all is recorded, whatever this process may do.
func (m *Maker) ForProcesses() *Maker {
	c := *m
	c.recorded, c.confined, c.uid, c.gid = true, true, 0, 0
	return &c
}

// chmod gives an object that is no symlink its mode.
func (m *Maker) chmod(path string, e *manifest.Entry) error {
	if !m.confined || e.Type != manifest.TypeFile && e.Type != manifest.TypeDir {
		return unix.Fchmodat(unix.AT_FDCWD, path, e.Mode&0o7777, 0)
	}
	kind := uint32(unix.S_IFREG)
	if e.Type == manifest.TypeDir {
		kind = unix.S_IFDIR
	}
	return owner.Chmod(path, kind|e.Mode&0o7777)
}

// fchmod is chmod of an open regular file.
func (m *Maker) fchmod(fd int, path string, e *manifest.Entry) error {
	if m.confined && owner.Widen(unix.S_IFREG|e.Mode)&0o7777 != e.Mode&0o7777 {
		return m.chmod(path, e)
	}
	return unix.Fchmod(fd, e.Mode&0o7777)
}

// makeWhiteoutFile makes overlay's other form of a whiteout (Linux 6.7), where no
// character device 0/0 can be made, as on an overlay.
func makeWhiteoutFile(path string) error {
	if err := unix.Mknod(path, unix.S_IFREG|0o600, 0); err != nil {
		return err
	}
	return errors.Join(
		unix.Setxattr(path, "user.overlay.whiteout", []byte("y"), 0),
		unix.Setxattr(filepath.Dir(path), "user.overlay.opaque", []byte("x"), 0))
}
