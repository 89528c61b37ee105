package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"layered.build/builder/snapshot/files"
)

// lackingFile is there in a layer whose directory a process made that may not make
// device nodes, or set overlay's own attributes or file capabilities: root of a
// container without the rights. Such processes do not mount overlays, and read from
// the manifest what is meant. Who does completes the directory first.
const lackingFile = "lacking"

// NoteLacking marks a layer, in its folder or before it is there, whose directory may
// lack something.
func (s *Store) NoteLacking(layer string) error {
	if !s.maker.Lacking() {
		return nil
	}
	if err := os.WriteFile(filepath.Join(layer, lackingFile), nil, 0o600); err != nil {
		return fmt.Errorf("mark layer: %w", err)
	}
	return nil
}

// isLacking reports whether this process has to complete a layer's directory.
func (s *Store) isLacking(id LayerID) bool {
	return s.driver != DriverCopy && s.hasForm(id, lackingFile) && s.maker.Completes()
}

// complete makes what a layer's directory lacks. The caller holds the layer's lock.
func (s *Store) complete(id LayerID) (err error) {
	scratch, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.RemoveAll(scratch)) }()
	if err := s.layerDir(id).Complete(scratch); err != nil {
		return err
	}
	if err := os.Remove(s.layerPath(id, lackingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
