package object

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/owner"
)

// Maker creates objects and sets their metadata as the calling user can. It is safe
// for concurrent use.
type Maker struct {
	uid, gid uint32 // of this process: what new objects get
	// opaqueXattr is the name under which overlay looks for opaque marks.
	opaqueXattr string
	// inUserns: device nodes cannot be made and some attributes not be set.
	inUserns bool
	// recorded: owners and devices are recorded in attributes (package owner), since
	// this process cannot set them.
	recorded bool
	// confined: modes let the owner in, and attributes that need privileges are
	// kept under other names, since this process is not root (owner.Confined).
	confined bool
	// lacking: something was made in another form than it is to have.
	lacking *atomic.Bool
}

// NewMaker returns the maker of this process.
func NewMaker() *Maker {
	m := &Maker{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), opaqueXattr: "trusted.overlay.opaque", inUserns: inUserns(), lacking: new(atomic.Bool)}
	if owner.Emulated() {
		m.recorded, m.confined, m.uid, m.gid = true, owner.Confined(), 0, 0
	}
	if m.inUserns || m.uid != 0 {
		m.opaqueXattr = userOpaque
	}
	return m
}

// userOpaque is what overlay looks for where it is mounted in a user namespace.
const userOpaque = "user.overlay.opaque"

// inUserns reports whether this process is in a user namespace that is not the
// machine's first.
func inUserns() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return os.Geteuid() != 0
	}
	f := strings.Fields(string(b))
	return len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295"
}

// Lstat says what an object is, with the owner and mode that a layer has for it.
func (m *Maker) Lstat(path string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	if err := Lstat(path, st); err != nil {
		return st, err
	}
	return st, m.applyRecord(path, st)
}

// Create makes any object but a regular file or hard link, where there is none and
// without metadata.
func (m *Maker) Create(path string, e *manifest.Entry) error {
	var err error
	switch e.Type {
	case manifest.TypeDir:
		err = unix.Mkdir(path, 0o700)
	case manifest.TypeSymlink:
		err = unix.Symlink(e.Linkname, path)
	case manifest.TypeFifo:
		err = unix.Mkfifo(path, 0o600)
	case manifest.TypeWhiteout:
		if err = unix.Mknod(path, unix.S_IFCHR, 0); errors.Is(err, unix.EPERM) || err != nil && m.recorded {
			err = m.instead(makeWhiteoutFile(path))
		}
	case manifest.TypeChar, manifest.TypeBlock:
		if e.Type == manifest.TypeChar && e.DevMajor == 0 && e.DevMinor == 0 {
			return fmt.Errorf("make %s: a character device 0/0 is overlay's whiteout", path)
		}
		err = m.makeDevice(path, e)
	default:
		err = fmt.Errorf("unknown type %q", e.Type)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return nil
}

// makeDevice makes a device node, or what stands for one.
func (m *Maker) makeDevice(path string, e *manifest.Entry) error {
	s := owner.Stat{Mode: unix.S_IFCHR | 0o600, Dev: unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))}
	if e.Type == manifest.TypeBlock {
		s.Mode = unix.S_IFBLK | 0o600
	}
	if m.recorded {
		return makeRecordedDevice(path, s)
	}
	err := unix.Mknod(path, s.Mode, int(s.Dev))
	switch {
	case !errors.Is(err, unix.EPERM):
		return err
	case m.inUserns: // no one can make device nodes here
		return makeRecordedDevice(path, s)
	}
	return m.instead(makeRecordedDevice(path, s))
}

// instead notes that something was made in place of what could not be made.
func (m *Maker) instead(err error) error {
	m.lacking.Store(true)
	return err
}

// SetMeta sets owner, mode, attributes and time of an object, in the order in
// which none undoes another. Directories that still get children need SetTime
// again afterwards. Whiteouts have none.
func (m *Maker) SetMeta(path string, e *manifest.Entry) error {
	if e.Type == manifest.TypeWhiteout {
		return nil
	}
	if e.UID != m.uid || e.GID != m.gid {
		if err := m.lchown(path, e.UID, e.GID); err != nil {
			return fmt.Errorf("chown %s to %d:%d: %w", path, e.UID, e.GID, err)
		}
	}
	if e.Type != manifest.TypeSymlink {
		if err := m.chmod(path, e); err != nil {
			return fmt.Errorf("chmod %s: %w", path, err)
		}
	}
	if err := m.setXattrs(path, e); err != nil {
		return err
	}
	return SetTime(path, e.ModTime)
}

// ChangeMeta is SetMeta for an object that had other metadata before.
func (m *Maker) ChangeMeta(path string, e *manifest.Entry) error {
	if err := m.lchown(path, e.UID, e.GID); err != nil {
		return fmt.Errorf("chown %s to %d:%d: %w", path, e.UID, e.GID, err)
	}
	return m.SetMeta(path, e)
}

func (m *Maker) setXattrs(path string, e *manifest.Entry) error {
	for k, v := range e.Xattrs {
		if !IsLayerXattr(k) {
			continue
		}
		if m.confined {
			k = owner.HiddenXattr(k)
		}
		err := unix.Lsetxattr(path, k, []byte(v), 0)
		if errors.Is(err, unix.EPERM) && k == "security.capability" && !m.inUserns { // without CAP_SETFCAP
			err = m.instead(unix.Lsetxattr(path, owner.HiddenXattr(k), []byte(v), 0))
		}
		// File systems without user attributes, attributes on symlinks, and
		// trusted ones without privilege: nothing that ran could tell.
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			continue
		}
		if err != nil {
			return fmt.Errorf("set xattr %s of %s: %w", k, path, err)
		}
	}
	if e.Opaque {
		return m.MarkOpaque(path)
	}
	return nil
}

// MarkOpaque makes a directory hide what lower layers have there.
func (m *Maker) MarkOpaque(path string) error {
	err := unix.Lsetxattr(path, m.opaqueXattr, []byte("y"), 0)
	if errors.Is(err, unix.EPERM) && m.opaqueXattr != userOpaque {
		err = m.instead(unix.Lsetxattr(path, userOpaque, []byte("y"), 0))
	}
	if err != nil {
		return fmt.Errorf("mark %s opaque: %w", path, err)
	}
	return nil
}

// SetTime sets the modification time of an object, which may be a symlink.
func SetTime(path string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		ts = unix.Timespec{}
	}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("set time of %s: %w", path, err)
	}
	return nil
}

// SetFileMeta is SetMeta for an open regular file whose content is written.
func (m *Maker) SetFileMeta(f *os.File, e *manifest.Entry) error {
	fd := int(f.Fd())
	if e.UID != m.uid || e.GID != m.gid {
		if err := m.fchown(fd, e); err != nil {
			return fmt.Errorf("chown %s to %d:%d: %w", f.Name(), e.UID, e.GID, err)
		}
	}
	if err := m.fchmod(fd, f.Name(), e); err != nil {
		return fmt.Errorf("chmod %s: %w", f.Name(), err)
	}
	if len(e.Xattrs) > 0 {
		if err := m.setXattrs(f.Name(), e); err != nil {
			return err
		}
	}
	return SetTime(f.Name(), e.ModTime)
}
