package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
)

// hasMeta reports whether a directory has a root's metadata.
func (s *Store) hasMeta(dir string, root rootMeta) (bool, error) {
	st, err := s.maker.Lstat(dir)
	if err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	return st.Mode&0o7777 == root.Mode && st.Uid == root.UID && st.Gid == root.GID, nil
}

// rootDir returns a directory to put on top of a stack so that its root has the
// metadata that an entry of a lower layer gives it; "" if the topmost layer shows
// it already.
func (s *Store) rootDir(top string, root rootMeta) (string, error) {
	if same, err := s.hasMeta(top, root); err != nil || same {
		return "", err
	}
	name := s.path(rootsDir, fmt.Sprintf("%o-%d-%d", root.Mode, root.UID, root.GID))
	if same, err := s.hasMeta(name, root); err == nil && same {
		return name, nil
	}
	tmp, err := s.tempDir(tmpDir)
	if err != nil {
		return "", err
	}
	err = s.setRoot(tmp, root)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o700)
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		os.Remove(tmp)
		if same, herr := s.hasMeta(name, root); herr == nil && same {
			return name, nil // another process made it meanwhile
		}
		return "", fmt.Errorf("make root directory: %w", err)
	}
	return name, nil
}
