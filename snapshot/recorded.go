package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/owner"
)

// ErrOwners says that a store's directories keep owners in another way than this
// process can.
var ErrOwners = errors.New("store keeps the owners of files in another way")

// ownersFile is there in a store whose directories record owners.
const ownersFile = "owners"

// checkOwners refuses a store that a process of the other kind made: it would show
// wrong owners.
func (s *Store) checkOwners() error {
	_, err := os.Lstat(s.path(ownersFile))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open store: %w", err)
	case err == nil && !s.maker.recorded:
		return fmt.Errorf("%w: %s records them, since it was made with a single id; name another folder with --root, use --isolation=single, or remove this one", ErrOwners, s.root)
	case err != nil && s.maker.recorded:
		return fmt.Errorf("%w: %s really has them, and this user has a single id; name another folder with --root, or remove this one", ErrOwners, s.root)
	}
	return nil
}

// lchown gives an object its owner. Where owners are recorded, those of symlinks
// and fifos are in the layer's manifest and tar only: they cannot carry a record.
func (m *maker) lchown(path string, uid, gid uint32) error {
	if m.recorded {
		return owner.Record(path, uid, gid)
	}
	return unix.Lchown(path, int(uid), int(gid))
}

// fchown is lchown for a new regular file.
func (m *maker) fchown(fd int, e *Entry) error {
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

// entry describes the object at path, of which lstat says st, as its layer shows it,
// and reports whether overlay marks it as an opaque directory. Path and links are
// the caller's.
func (m *maker) entry(path string, st *unix.Stat_t) (Entry, bool, error) {
	s := *st
	if m.recorded && !isWhiteout(st) {
		if err := m.applyRecord(path, &s); err != nil {
			return Entry{}, false, err
		}
	}
	e := statEntry(&s)
	if e.Type == TypeWhiteout || e.Type == TypeSocket {
		return e, false, nil
	}
	var opaque bool
	var err error
	e.Xattrs, opaque, err = readXattrs(path)
	return e, opaque, err
}

// sideOwner gives a symlink or fifo the owner that is known of it.
func (d *differ) sideOwner(host string, e *Entry) error {
	if len(d.side) == 0 || e.Type != TypeSymlink && e.Type != TypeFifo {
		return nil
	}
	i, err := owner.InodeOf(unix.AT_FDCWD, host)
	if err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	if rec, ok := d.side[i]; ok {
		e.UID, e.GID = rec.UID, rec.GID
	}
	return nil
}

// applyRecord makes st say what is recorded at path. What has no record is root's.
func (m *maker) applyRecord(path string, st *unix.Stat_t) error {
	st.Uid, st.Gid = 0, 0
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	if m.confined {
		owner.ApplyMode(path, st)
	}
	rec, ok, err := owner.Read(path)
	if ok {
		rec.Apply(st)
	}
	return err
}

// forProcesses is the maker of files that emulated processes work on (package
// executor/chroot): all is recorded, whatever this process may do.
func (m maker) forProcesses() *maker {
	m.recorded, m.confined, m.uid, m.gid = true, true, 0, 0
	return &m
}

// chmod gives an object that is no symlink its mode.
func (m *maker) chmod(path string, e *Entry) error {
	if !m.confined || e.Type != TypeFile && e.Type != TypeDir {
		return unix.Fchmodat(unix.AT_FDCWD, path, e.Mode&0o7777, 0)
	}
	kind := uint32(unix.S_IFREG)
	if e.Type == TypeDir {
		kind = unix.S_IFDIR
	}
	return owner.Chmod(path, kind|e.Mode&0o7777)
}

// fchmod is chmod of an open regular file.
func (m *maker) fchmod(fd int, path string, e *Entry) error {
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
