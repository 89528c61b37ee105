package object

import (
	"fmt"
	"time"

	"layered.build/builder/snapshot/manifest"
)

// Root is the metadata of the root directory of a layer or stack.
type Root struct {
	Mode     uint32
	UID, GID uint32
}

// SetRoot gives a layer's directory the metadata that the root has.
func (m *Maker) SetRoot(dir string, root Root) error {
	return m.SetMeta(dir, &manifest.Entry{Type: manifest.TypeDir, Mode: root.Mode, UID: root.UID, GID: root.GID, ModTime: time.Unix(0, 0)})
}

// HasRoot reports whether a directory has a root's metadata.
func (m *Maker) HasRoot(dir string, root Root) (bool, error) {
	st, err := m.Lstat(dir)
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	return st.Mode&0o7777 == root.Mode && st.Uid == root.UID && st.Gid == root.GID, nil
}
