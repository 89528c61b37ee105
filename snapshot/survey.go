package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/layerdir"
	"layered.build/builder/snapshot/manifest"
)

// Layers lists the layers whose data is on disk, in no special order. It does not
// use (pin) them.
func (s *Store) Layers() ([]Layer, error) {
	all, err := s.Survey()
	return slices.DeleteFunc(all, func(l Layer) bool { return l.DiffID == "" }), err
}

// Survey lists the layers that have a folder in the store, without using (pinning)
// them. A layer whose record cannot be read has only its ID.
func (s *Store) Survey() ([]Layer, error) {
	ids, err := s.IDs()
	ls := make([]Layer, 0, len(ids))
	for _, id := range ids {
		if rec, err := s.readLayer(id); err == nil {
			ls = append(ls, rec.Layer)
		} else {
			ls = append(ls, Layer{ID: id})
		}
	}
	return ls, err
}

// IDs lists the layers that have a folder in the store, without using (pinning) them or
// reading what is known of them.
func (s *Store) IDs() ([]LayerID, error) {
	names, err := os.ReadDir(s.path(LayersFolder))
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var ids []LayerID
	for _, n := range names {
		if id := LayerID(n.Name()); checkID(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Check verifies a layer: its record, its manifest and, unless quick, that the tar
// that is rebuilt from it has the DiffID. The error matches fs.ErrNotExist if the
// layer is gone altogether.
func (s *Store) Check(ctx context.Context, id LayerID, quick bool) error {
	if _, err := os.Lstat(s.layerPath(id)); err != nil {
		return err
	}
	s.pinLayer(id)
	rec, err := s.readLayer(id)
	if err != nil {
		if _, gone := os.Lstat(s.layerPath(id)); gone != nil {
			return gone
		}
		return fmt.Errorf("damaged record: %v", err)
	}
	if err := s.checkManifest(id); err != nil {
		return fmt.Errorf("manifest: %v", err)
	}
	if quick {
		return nil
	}
	if err := s.checkDir(ctx, id); err != nil {
		if _, gone := os.Lstat(s.layerPath(id)); gone != nil {
			return gone
		}
		if errors.Is(err, layerdir.ErrDirectory) || ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("directory: %v", err) // a file that is missing is no layer that is
	}
	if rec.Layer.Unnamed() {
		err := s.checkUnnamed(ctx, rec)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("rebuild tar: %v", err)
		}
		return context.Cause(ctx)
	}
	r, err := s.Tar(ctx, rec.Layer)
	if err != nil {
		return fmt.Errorf("rebuild tar: %v", err)
	}
	h := digest.SHA256.Digester()
	_, err = io.Copy(h.Hash(), r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("rebuild tar: %v", err)
	}
	if got := DiffID(h.Digest()); got != rec.Layer.DiffID {
		return fmt.Errorf("the tar has digest %s, not %s", got, rec.Layer.DiffID)
	}
	return nil
}

// checkManifest decodes every record.
func (s *Store) checkManifest(id LayerID) error {
	x, err := manifest.Open(s.layerPath(id, manifestFile))
	if err != nil {
		return err
	}
	for i := range x.Len() {
		if _, err := x.Record(i); err != nil {
			return err
		}
	}
	return nil
}
