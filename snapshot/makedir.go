package snapshot

import (
	"context"
	"errors"
	"os"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/unpack"
)

// makeDir makes the directory form of a layer that has a tar form, which it then
// removes: the tar can be made from the directory again. The caller holds the
// layer's lock.
func (s *Store) makeDir(ctx context.Context, id LayerID) (err error) {
	if s.hasForm(id, dirForm) {
		return nil
	}
	idx, err := manifest.Open(s.layerPath(id, manifestFile))
	if err != nil {
		return err
	}
	tar, err := os.Open(s.layerPath(id, tarForm))
	if err != nil {
		return err
	}
	defer tar.Close()
	tmp, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.RemoveAll(tmp))
		}
	}()
	if err := unpack.Form(ctx, s.maker, idx, tar, tmp); err != nil {
		return err
	}
	if err := s.maker.SetRoot(tmp, object.Root{Mode: 0o755}); err != nil {
		return err
	}
	if err := s.NoteLacking(s.layerPath(id)); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.layerPath(id, dirForm)); err != nil {
		return err
	}
	return os.Remove(s.layerPath(id, tarForm))
}
