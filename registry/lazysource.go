package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// LazySource is images of the store whose blobs are fetched, or made again, only when
// they are opened: a destination that has a blob costs nothing but its name.
type LazySource struct {
	c      *Client
	root   ocispec.Descriptor
	small  map[digest.Digest][]byte         // manifests, configurations, the index
	stacks map[digest.Digest]snapshot.Stack // that end with the layer
}

var _ Source = (*LazySource)(nil)

// LazySource opens images of the store. Layers of which no compressed form is known
// are compressed now.
func (c *Client) LazySource(ctx context.Context, x *Index) (*LazySource, error) {
	s := &LazySource{c: c, small: map[digest.Digest][]byte{}, stacks: map[digest.Digest]snapshot.Stack{}}
	var members []ocispec.Descriptor
	for _, img := range x.Images {
		if err := c.Attach(img.Stack); err != nil {
			return nil, err
		}
		desc, err := s.add(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("describe image %s: %w", img.ID, err)
		}
		s.root = desc
		members = append(members, img.Member(desc))
	}
	if len(members) == 1 {
		return s, nil
	}
	desc, raw, err := x.Encode(members)
	s.root, s.small[desc.Digest] = desc, raw
	return s, err
}

// add describes an image.
func (s *LazySource) add(ctx context.Context, img *Image) (ocispec.Descriptor, error) {
	layers, err := img.KeptLayers()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	kept := layers != nil
	if !kept {
		if layers, err = s.layers(ctx, img.Stack); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	for i, l := range layers {
		s.stacks[l.Digest] = img.Stack[:i+1]
	}
	s.small[img.ID] = img.RawConfig
	if kept {
		s.small[img.Manifest.Digest] = img.RawManifest
		return *img.Manifest, nil
	}
	desc, raw, err := image.NewManifest(ocispec.Descriptor{Digest: img.ID, Size: int64(len(img.RawConfig))}, layers, Form{})
	s.small[desc.Digest] = raw
	return desc, err
}

// layers describes the layers of a stack.
func (s *LazySource) layers(ctx context.Context, stack snapshot.Stack) ([]ocispec.Descriptor, error) {
	descs := make([]ocispec.Descriptor, len(stack))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.c.opts.Parallel)
	for i, l := range stack {
		if known, ok := s.c.knownBlob(l); ok {
			descs[i] = known
			continue
		}
		group.Go(func() error {
			var err error
			descs[i], err = s.c.LayerBlob(ctx, stack[:i+1])
			return err
		})
	}
	return descs, group.Wait()
}

// Manifest implements Source.
func (s *LazySource) Manifest(_ context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	if want.Digest == "" {
		want = s.root
	}
	raw, ok := s.small[want.Digest]
	if !ok {
		return nil, want, fmt.Errorf("manifest %s: %w", want.Digest, ErrNotFound)
	}
	return raw, want, nil
}

// Open implements Source.
func (s *LazySource) Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if raw, ok := s.small[desc.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw[min(offset, int64(len(raw))):])), nil
	}
	stack := s.stacks[desc.Digest]
	if stack == nil {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, ErrNotFound)
	}
	if err := s.c.ensureBlob(ctx, stack, desc); err != nil {
		return nil, err
	}
	return s.c.kept(desc)(ctx, offset)
}

// Origins returns the repositories that are known to have a blob.
func (s *LazySource) Origins(blob digest.Digest) []Reference {
	stack := s.stacks[blob]
	if len(stack) == 0 {
		return nil
	}
	o, err := s.c.images.Origin(stack[len(stack)-1].DiffID)
	if form := o.Find(blob); err == nil && form != nil {
		return form.References()
	}
	return nil
}
