package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/pack"
)

// unnamed begins the DiffID of a layer whose tar nobody needed yet.
const unnamed = "manifest:"

// Unnamed reports whether the layer's tar, most of which are zeros, was not made, so
// that its digest is not known: DiffID stands for it then, as the digest of the layer's
// manifest, and is good for the store alone. Store.Name finds the digest out.
func (l Layer) Unnamed() bool { return strings.HasPrefix(string(l.DiffID), unnamed) }

// standIn is the DiffID of a layer whose tar is not made.
func standIn(manifest string) (DiffID, error) {
	f, err := os.Open(manifest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d, err := digest.SHA256.FromReader(f)
	return DiffID(unnamed + d.Encoded()), err
}

// Name returns the layers, which stand on parent, with the digests of their tars: what
// images and registries know them by. Layers that have them, on the same layers, are
// returned as they are. Of the others the tars are made, but not kept, and then each
// layer once more under its name; contents are stored once.
func (s *Store) Name(ctx context.Context, parent, layers Stack) (Stack, error) {
	if !slices.ContainsFunc(layers, Layer.Unnamed) {
		return layers, nil
	}
	below := slices.Clone(parent)
	moved := false
	for _, l := range layers {
		if moved = moved || l.Unnamed(); moved {
			var err error
			if l, err = s.nameLayer(ctx, below, l); err != nil {
				return nil, fmt.Errorf("name layer: %w", err)
			}
		}
		below = append(below, l)
	}
	return below[len(parent):], nil
}

// nameLayer does one layer.
func (s *Store) nameLayer(ctx context.Context, below Stack, l Layer) (Layer, error) {
	if err := s.ensure(ctx, Stack{l}, false); err != nil {
		return Layer{}, err
	}
	// The lock keeps the layer's form from changing.
	lock, err := s.lease.Lock(ctx, string(l.ID))
	if err != nil {
		return Layer{}, err
	}
	defer lock.Remove()
	rec, err := s.loadLayer(l.ID)
	if err != nil {
		return Layer{}, err
	}
	named := *rec
	if named.Layer.DiffID, err = s.diffID(ctx, rec); err != nil {
		return Layer{}, err
	}
	d := &derivation{s: s, rec: &named, below: below, keep: true}
	if known, ok := d.known(); ok {
		return known, nil
	}
	return d.run(ctx)
}

// diffID returns the digest of a layer's tar. If it is not known the tar is made, and the
// digest kept.
func (s *Store) diffID(ctx context.Context, rec *layerRecord) (DiffID, error) {
	if !rec.Layer.Unnamed() {
		return rec.Layer.DiffID, nil
	}
	path := s.layerPath(rec.Layer.ID, diffFile)
	if b, err := os.ReadFile(path); err == nil && digest.Digest(b).Validate() == nil {
		return DiffID(b), nil
	}
	d, err := s.packAgain(ctx, rec)
	if err != nil {
		return "", fmt.Errorf("make tar of layer %s: %w", rec.Layer.ID, err)
	}
	return d, s.lease.WriteFile(path, []byte(d))
}

// checkUnnamed verifies a layer without a name, and the name that was found for it.
func (s *Store) checkUnnamed(ctx context.Context, rec *layerRecord) error {
	got, err := s.packAgain(ctx, rec)
	if err != nil {
		return err
	}
	if b, err := os.ReadFile(s.layerPath(rec.Layer.ID, diffFile)); err == nil && string(b) != string(got) {
		return fmt.Errorf("the tar has digest %s, not %s", got, b)
	}
	return nil
}

// packAgain packs a layer without a name, verifies all that its manifest says, and returns
// the digest of the tar.
func (s *Store) packAgain(ctx context.Context, rec *layerRecord) (_ DiffID, err error) {
	id := rec.Layer.ID
	idx, err := manifest.Open(s.layerPath(id, manifestFile))
	if err != nil {
		return "", err
	}
	tmp, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, files.RemoveAll(tmp)) }()
	again := filepath.Join(tmp, manifestFile)
	man, err := manifest.Create(again)
	if err != nil {
		return "", err
	}
	src := &derivedItems{idx: idx}
	if s.hasForm(id, dirForm) {
		src.dir = s.layerPath(id, dirForm)
	} else {
		if src.tar, err = os.Open(s.layerPath(id, tarForm)); err != nil {
			man.Abort()
			return "", err
		}
		defer src.tar.Close()
	}
	out, err := pack.Run(ctx, pack.Target{Maker: s.maker, Manifest: man}, src.walk)
	if err != nil {
		man.Abort()
		return "", err
	}
	if _, err := man.Finish(); err != nil {
		return "", err
	}
	got, err := standIn(again)
	if err == nil && got != rec.Layer.DiffID {
		err = fmt.Errorf("layer data is damaged: its manifest is %s, not %s", got, rec.Layer.DiffID)
	}
	return DiffID(out.Digest), err
}
