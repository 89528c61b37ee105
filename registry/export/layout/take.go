package layout

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
)

// maxNested bounds indexes in indexes.
const maxNested = 4

// Take takes the image for a platform into the store, without a name, and returns it with
// the descriptor of its manifest. An image whose configuration the store has is not read
// again. An image that is for one platform is taken whatever that is.
func (l *Layout) Take(ctx context.Context, c *registry.Client, p ocispec.Platform) (*registry.Image, ocispec.Descriptor, error) {
	raw, desc, err := l.choose(ctx, p)
	if err != nil {
		return nil, desc, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, desc, fmt.Errorf("manifest %s: %w: %w", desc.Digest, registry.ErrInvalid, err)
	}
	if m.Config.Digest.Validate() == nil {
		if img, err := c.Images().ResolveLocal(m.Config.Digest.String()); err == nil {
			return img, desc, nil
		}
	}
	dst := c.StoreDestination()
	if _, err := registry.Copy(ctx, dst, chosen{l, desc}, registry.CopyOptions{Parallel: 4}); err != nil {
		return nil, desc, fmt.Errorf("layout %s: %w", l.name, err)
	}
	x, err := dst.Result(ctx)
	if err != nil {
		return nil, desc, fmt.Errorf("layout %s: %w", l.name, err)
	}
	return x.Images[0], desc, nil
}

// choose looks through indexes for the manifest for a platform.
func (l *Layout) choose(ctx context.Context, p ocispec.Platform) ([]byte, ocispec.Descriptor, error) {
	raw, desc, err := l.Manifest(ctx, ocispec.Descriptor{})
	for depth := 0; err == nil && mediatype.IsIndex(desc.MediaType); depth++ {
		if depth == maxNested {
			return nil, desc, fmt.Errorf("layout %s: %w: indexes are nested too deeply", l.name, registry.ErrInvalid)
		}
		next, cerr := image.Choose(raw, platforms.Only(platforms.Normalize(p)), registry.Look(ctx, l))
		if cerr != nil {
			return nil, desc, fmt.Errorf("layout %s: index %s: %w", l.name, desc.Digest, cerr)
		}
		raw, desc, err = l.Manifest(ctx, next)
	}
	return raw, desc, err
}

// chosen is a layout of which one manifest is wanted.
type chosen struct {
	*Layout
	top ocispec.Descriptor
}

// Manifest implements registry.Source.
func (c chosen) Manifest(ctx context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	if want.Digest == "" {
		want = c.top
	}
	return c.Layout.Manifest(ctx, want)
}
