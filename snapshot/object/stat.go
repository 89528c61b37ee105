package object

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/owner"
)

// StatEntry fills an Entry from what lstat says; Path, links and xattrs are the
// caller's.
func StatEntry(st *unix.Stat_t) manifest.Entry {
	e := manifest.Entry{
		Mode: st.Mode & 0o7777,
		UID:  st.Uid, GID: st.Gid,
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = manifest.TypeFile, st.Size
	case unix.S_IFDIR:
		e.Type = manifest.TypeDir
	case unix.S_IFLNK:
		e.Type, e.Mode = manifest.TypeSymlink, 0o777
	case unix.S_IFIFO:
		e.Type = manifest.TypeFifo
	case unix.S_IFSOCK:
		e.Type = manifest.TypeSocket
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Type = manifest.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Type = manifest.TypeBlock
		}
		e.DevMajor, e.DevMinor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		if IsWhiteout(st) {
			e = manifest.Entry{Type: manifest.TypeWhiteout}
		}
	}
	return e
}

// IsWhiteout recognises overlay's whiteout, the character device 0/0.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// Lstat is unix.Lstat, repeated when a signal interrupts it.
func Lstat(path string, st *unix.Stat_t) error {
	for {
		err := unix.Lstat(path, st)
		if err != unix.EINTR {
			return err
		}
	}
}

// isOverlayXattr recognises the attributes that overlay keeps its own state in.
func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") || strings.HasPrefix(name, "user.fuseoverlayfs.")
}

// IsLayerXattr says which extended attributes belong to a layer's content: file
// capabilities and what programs set, but neither labels of this machine's
// security modules nor ACLs nor overlay's own state nor recorded owners.
func IsLayerXattr(name string) bool {
	switch name {
	case "security.capability":
		return true
	case owner.Xattr, owner.ModeXattr:
		return false
	}
	return !strings.HasPrefix(name, "security.") && !strings.HasPrefix(name, "system.") && !isOverlayXattr(name)
}

// ReadXattrs returns an object's attributes that belong to a layer, nil if there
// are none, and whether overlay marks it as an opaque directory.
func ReadXattrs(path string) (xattrs map[string]string, opaque bool, err error) {
	var stack [1024]byte
	names := stack[:]
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ERANGE) {
		names = make([]byte, 64<<10)
		n, err = unix.Llistxattr(path, names)
	}
	if errors.Is(err, unix.ENOTSUP) || (err == nil && n == 0) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list xattrs of %s: %w", path, err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		isMark := name == "trusted.overlay.opaque" || name == "user.overlay.opaque"
		shown, ok := owner.ShownXattr(name)
		if !isMark && (!ok || !IsLayerXattr(shown)) {
			continue
		}
		v, err := ReadXattr(path, name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("read xattr %s of %s: %w", name, path, err)
		}
		if isMark {
			opaque = opaque || v == "y"
			continue
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[shown] = v
	}
	return xattrs, opaque, nil
}

// ReadXattr returns the value of one attribute; the error matches unix.ENODATA if the
// object has none of that name.
func ReadXattr(path, name string) (string, error) {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10)
		n, err = unix.Lgetxattr(path, name, buf)
	}
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
