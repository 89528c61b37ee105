package object

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/owner"
)

// Lacking reports whether this maker has made anything in another form than it is to
// have, since this process may not make it: a whiteout, an opaque mark, a device, file
// capabilities. Complete mends that.
func (m *Maker) Lacking() bool { return m.lacking.Load() }

// Completes reports whether this process may make all that a layer's directory holds.
func (m *Maker) Completes() bool {
	return !m.inUserns && !m.recorded && owner.MayAll(unix.CAP_MKNOD, unix.CAP_SYS_ADMIN, unix.CAP_SETFCAP)
}

// Complete gives what was made of an entry at path the form that it is to have; what has
// it stays, and so does the time of its directory. Links are entries of their own: linked
// is the path of the first one. Nothing is at fresh, a path in the same file system.
func (m *Maker) Complete(path, linked, fresh string, e *manifest.Entry) error {
	switch e.Type {
	case manifest.TypeWhiteout, manifest.TypeChar, manifest.TypeBlock:
		var st unix.Stat_t
		if err := Lstat(path, &st); err != nil {
			return fmt.Errorf("complete %s: %w", path, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			return m.replace(path, linked, fresh, e)
		}
	case manifest.TypeDir:
		if e.Opaque {
			return m.MarkOpaque(path)
		}
	case manifest.TypeFile:
		const name = "security.capability"
		if v, ok := e.Xattrs[name]; ok {
			if err := unix.Lsetxattr(path, name, []byte(v), 0); err != nil {
				return fmt.Errorf("complete %s: %w", path, err)
			}
			_ = unix.Lremovexattr(path, owner.HiddenXattr(name)) // if it is there
		}
	}
	return nil
}

// replace makes an object at fresh and puts it in the place of what stands for it.
func (m *Maker) replace(path, linked, fresh string, e *manifest.Entry) error {
	var dir unix.Stat_t
	err := Lstat(filepath.Dir(path), &dir)
	if err == nil && linked != "" {
		err = unix.Link(linked, fresh)
	} else if err == nil {
		if err = m.Create(fresh, e); err == nil {
			err = m.SetMeta(fresh, e)
		}
	}
	if err == nil {
		err = unix.Rename(fresh, path)
	}
	if err == nil {
		err = SetTime(filepath.Dir(path), time.Unix(dir.Mtim.Unix()))
	}
	if err != nil {
		return fmt.Errorf("complete %s: %w", path, err)
	}
	return nil
}
