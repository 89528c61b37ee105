package snapshot

import (
	"fmt"
	"os"
	"path/filepath"

	"layered.build/builder/snapshot/object"
)

// rootDir returns a directory to put on top of a stack so that its root has the
// metadata that an entry of a lower layer gives it; "" if the topmost layer shows
// it already.
func (s *Store) rootDir(top string, root object.Root) (string, error) {
	if same, err := s.maker.HasRoot(top, root); err != nil || same {
		return "", err
	}
	name := s.path(rootsDir, fmt.Sprintf("%o-%d-%d", root.Mode, root.UID, root.GID))
	if same, err := s.maker.HasRoot(name, root); err == nil && same {
		return name, nil
	}
	tmp, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return "", err
	}
	err = s.maker.SetRoot(tmp, root)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o700)
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		os.Remove(tmp)
		if same, herr := s.maker.HasRoot(name, root); herr == nil && same {
			return name, nil // another process made it meanwhile
		}
		return "", fmt.Errorf("make root directory: %w", err)
	}
	return name, nil
}
