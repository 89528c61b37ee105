package imagestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
)

// NotePush records which manifest a pushed image has, if the image is one of these.
func (s *Store) NotePush(ctx context.Context, id digest.Digest, name string, desc ocispec.Descriptor, raw []byte) error {
	if _, err := s.record(id); errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if _, err := s.layers.Blobs().Put(ctx, raw); err != nil {
		return fmt.Errorf("store manifest %s: %w", desc.Digest, err)
	}
	return s.locked(func() error {
		rec, err := s.record(id)
		if err != nil {
			return err
		}
		if rec.Manifest == nil {
			rec.Manifest = &desc
			if err := s.write(s.recordPath(id), rec, true); err != nil {
				return fmt.Errorf("store image %s: %w", id, err)
			}
		}
		names, err := s.readNames()
		if err != nil {
			return err
		}
		if t, ok := names[name]; !ok || t.Config != id || len(t.Images) > 0 {
			return nil
		}
		return s.setNames(id, &desc, []string{name})
	})
}

// NotePushIndex records what an index was pushed as, if the name is that of these
// images here too.
func (s *Store) NotePushIndex(ctx context.Context, x *image.Index, name string, desc ocispec.Descriptor, raw []byte) error {
	if _, err := s.layers.Blobs().Put(ctx, raw); err != nil {
		return fmt.Errorf("store index %s: %w", desc.Digest, err)
	}
	return s.locked(func() error {
		names, err := s.readNames()
		if err != nil {
			return err
		}
		t, ok := names[name]
		if !ok || len(t.Images) != len(x.Images) {
			return nil
		}
		for _, img := range x.Images {
			if !t.has(img.ID) {
				return nil
			}
		}
		t.Index = &desc
		names[name] = t
		return s.writeNames(names)
	})
}
