package object

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/owner"
)

// Differs says in what an object at path is not the entry that was made there, "" if it is.
// Linked is the path of the first name of a hard link, else "". Sizes, times and contents are
// not looked at, nor what this maker could not have set.
func (m *Maker) Differs(path, linked string, e *manifest.Entry) (string, error) {
	var st unix.Stat_t
	if err := Lstat(path, &st); err != nil {
		return "", fmt.Errorf("stat %s: %w", path, err)
	}
	if linked != "" {
		var first unix.Stat_t
		if err := Lstat(linked, &first); err != nil {
			return "", fmt.Errorf("stat %s: %w", linked, err)
		}
		if st.Ino != first.Ino {
			return "no hard link", nil
		}
		return "", nil
	}
	if e.Type == manifest.TypeWhiteout {
		if !IsWhiteout(&st) && !IsWhiteoutFile(path, &st) {
			return "no whiteout", nil
		}
		return "", nil
	}
	is, opaque, err := m.Describe(path, &st)
	if err != nil {
		return "", err
	}
	if e.Opaque && !opaque {
		return "not opaque", nil
	}
	return m.differs(path, &is, e), nil
}

// differs compares what an object is with what it is to be.
func (m *Maker) differs(path string, is, e *manifest.Entry) string {
	carries := !m.recorded || e.Type != manifest.TypeSymlink && e.Type != manifest.TypeFifo
	switch {
	case is.Type != e.Type:
		return "of another type"
	case is.DevMajor != e.DevMajor || is.DevMinor != e.DevMinor:
		return "another device"
	case carries && (is.UID != e.UID || is.GID != e.GID):
		return fmt.Sprintf("of %d:%d, not %d:%d", is.UID, is.GID, e.UID, e.GID)
	case e.Type != manifest.TypeSymlink && is.Mode != e.Mode&0o7777:
		return fmt.Sprintf("of mode %04o, not %04o", is.Mode, e.Mode&0o7777)
	case e.Type != manifest.TypeFile && e.Type != manifest.TypeDir: // which carry no attributes
		return ""
	}
	for k, v := range e.Xattrs {
		if is.Xattrs[k] != v && m.keeps(path, k) {
			return "without its attribute " + k
		}
	}
	return ""
}

// keeps reports whether this maker could set an attribute of a file.
func (m *Maker) keeps(path, name string) bool {
	if !m.confined && name == "security.capability" {
		return true
	}
	if !m.confined && !strings.HasPrefix(name, "user.") {
		return false
	}
	_, err := ReadXattr(path, owner.ModeXattr)
	return err == nil || errors.Is(err, unix.ENODATA)
}

// IsWhiteoutFile recognises overlay's other form of a whiteout.
func IsWhiteoutFile(path string, st *unix.Stat_t) bool {
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0 {
		return false
	}
	_, err := ReadXattr(path, "user.overlay.whiteout")
	return err == nil
}

// Restore makes an object the entry again that was made at path (see Differs): what copied
// it could not keep its owner, mode, attributes or type. Contents and times stay, and so does the
// time of its directory. Nothing is at fresh, a path in the same file system.
func (m *Maker) Restore(path, linked, fresh string, e *manifest.Entry) error {
	differs, err := m.Differs(path, linked, e)
	plain := linked == "" && (e.Type == manifest.TypeFile || e.Type == manifest.TypeDir)
	switch {
	case err == nil && differs == "":
		return nil
	case !plain && (err == nil || errors.Is(err, unix.ENOENT)):
		return m.replace(path, linked, fresh, e)
	case err != nil:
		return err
	}
	var st unix.Stat_t
	if err := Lstat(path, &st); err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	is := StatEntry(&st)
	if is.Type != e.Type {
		return fmt.Errorf("restore %s: it is %s", path, differs)
	}
	own := *e
	own.ModTime = is.ModTime
	return m.ChangeMeta(path, &own)
}
