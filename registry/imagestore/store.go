// Package imagestore keeps the images of a store: their names, what these point at,
// Docker's records of the instructions that made them, and where layers came from. It
// alone knows the files of the folder images (docs/FORMAT.md, "Images").
package imagestore

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/reference"
	"layered.build/builder/snapshot"
)

// Store has the images of one store of layers: names, what they point at, and the V1
// records of the steps that made them. They are plain files below <root>/images;
// several processes may change them at once. It is safe for concurrent use.
type Store struct {
	dir    string
	layers *snapshot.Store

	mu       sync.Mutex
	names    map[string]nameTarget // guarded by mu: what is in namesRaw
	namesRaw []byte                // guarded by mu: names.json as it was read last
}

// Info is one line of docker images.
type Info struct {
	// ID is the digest of the configuration.
	ID digest.Digest
	// Names are normalised; none for a dangling image.
	Names    []string
	Manifest *ocispec.Descriptor `json:",omitempty"`
	Platform ocispec.Platform
	Created  time.Time
	// Size is the sum of the uncompressed layers, in bytes; of those that were never
	// fetched only the compressed size is known, which counts instead.
	Size int64
}

// Open opens (or makes) the images of a store.
func Open(layers *snapshot.Store) (*Store, error) {
	s := &Store{dir: filepath.Join(layers.Root(), folder), layers: layers}
	for _, sub := range []string{recordsDir, v1Dir, originsDir, tmpDir} {
		if err := os.MkdirAll(s.path(sub), 0o755); err != nil {
			return nil, fmt.Errorf("open images: %w", err)
		}
	}
	if err := s.reclaim(); err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	return s, nil
}

// Put stores an image and points names (any form) at it. An image that lost its
// last name to this one stays, without a name.
func (s *Store) Put(ctx context.Context, img *image.Image, names ...string) error {
	full := make([]string, 0, len(names))
	for _, n := range names {
		ref, err := reference.Parse(n)
		if err != nil {
			return err
		}
		full = append(full, ref.String())
	}
	for _, raw := range [][]byte{img.RawConfig, img.RawManifest} {
		if raw == nil {
			continue
		}
		if _, err := s.layers.Blobs().Put(ctx, raw); err != nil {
			return fmt.Errorf("store image %s: %w", img.ID, err)
		}
	}
	return s.locked(func() error {
		rec := imageRecord{Version: formatVersion, ID: img.ID, Manifest: img.Manifest, Platform: img.Config.Platform, Stack: img.Stack, V1: img.V1}
		if img.Config.Created != nil {
			rec.Created = *img.Config.Created
		}
		if old, err := s.record(img.ID); err == nil {
			rec.V1 = cmp.Or(rec.V1, old.V1)
			if rec.Manifest == nil {
				rec.Manifest = old.Manifest
			}
		}
		if err := s.write(s.recordPath(img.ID), rec, true); err != nil {
			return fmt.Errorf("store image %s: %w", img.ID, err)
		}
		return s.setNames(img.ID, img.Manifest, full)
	})
}

// List returns all images, the newest first; dangling ones too.
func (s *Store) List() ([]Info, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	recs, err := s.records()
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(recs))
	for _, rec := range recs {
		info := Info{ID: rec.ID, Names: namesOf(names, rec.ID), Manifest: rec.Manifest, Platform: rec.Platform, Created: rec.Created}
		for _, l := range s.Refresh(rec.Stack) {
			info.Size += s.sizeOf(l)
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(string(a.ID), string(b.ID)))
	})
	return infos, nil
}

// sizeOf is how large a layer is, as Info.Size counts it.
func (s *Store) sizeOf(l snapshot.Layer) int64 {
	if l.Size > 0 {
		return l.Size
	}
	if o, err := s.Origin(l.DiffID); err == nil && o != nil {
		return o.Blob.Size
	}
	return 0
}

// Tag points another name at an image (or at the result of a step).
func (s *Store) Tag(ctx context.Context, source, name string) error {
	x, err := s.ResolveIndex(source)
	if err != nil {
		return err
	}
	ref, err := reference.Parse(name)
	if err != nil {
		return err
	}
	if ref.Digest != "" {
		return fmt.Errorf("tag %q: %w: a digest cannot be given as a name", name, errdef.ErrInvalid)
	}
	if len(x.Images) > 1 {
		return s.PutIndex(ctx, x, name)
	}
	return s.Put(ctx, x.Images[0], name)
}

// PutIndex stores images, and points names (any form) at all of them together.
func (s *Store) PutIndex(ctx context.Context, x *image.Index, names ...string) error {
	if len(x.Images) == 0 {
		return fmt.Errorf("store index: %w: it has no images", errdef.ErrInvalid)
	}
	t := nameTarget{Index: x.Descriptor}
	for _, img := range x.Images {
		if err := s.Put(ctx, img); err != nil {
			return err
		}
		t.Images = append(t.Images, nameMember{Config: img.ID, Manifest: img.Manifest, Platform: img.Config.Platform})
	}
	if x.Raw != nil {
		if _, err := s.layers.Blobs().Put(ctx, x.Raw); err != nil {
			return fmt.Errorf("store index %s: %w", x.Descriptor.Digest, err)
		}
	}
	own, ok := t.on(platforms.Default())
	if !ok {
		own = t.Images[0]
	}
	t.Config, t.Manifest = own.Config, own.Manifest
	return s.point(t, names)
}
