package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/progress"
	"layered.build/builder/snapshot"
)

// storeSource is an image in the store with all of its blobs.
type storeSource struct {
	c    *Client
	root ocispec.Descriptor
}

// StoreSource opens images of the store. It fetches or makes the blobs that are
// lacking.
func (c *Client) StoreSource(ctx context.Context, x *Index) (Source, error) {
	for _, img := range x.Images {
		if err := c.Attach(img.Stack); err != nil {
			return nil, err
		}
	}
	desc, err := c.Describe(ctx, x)
	if err != nil {
		return nil, err
	}
	for _, img := range x.Images {
		for _, raw := range [][]byte{img.RawManifest, img.RawConfig} {
			if _, err := c.store.Blobs().Put(ctx, raw); err != nil {
				return nil, err
			}
		}
	}
	return &storeSource{c, desc}, nil
}

// Manifest implements Source.
func (s *storeSource) Manifest(_ context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	if want.Digest == "" {
		want = s.root
	}
	raw, err := s.c.store.Blobs().ReadAll(want.Digest)
	return raw, want, err
}

// Open implements Source.
func (s *storeSource) Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return s.c.kept(desc)(ctx, offset)
}

// StoreDestination takes images into the store.
type StoreDestination struct {
	c *Client

	mu     sync.Mutex
	images []*Image // guarded by mu
	index  *ocispec.Descriptor
	raw    []byte
}

// StoreDestination makes one; Result tells what it got.
func (c *Client) StoreDestination() *StoreDestination { return &StoreDestination{c: c} }

// Blob implements Destination.
func (d *StoreDestination) Blob(ctx context.Context, desc ocispec.Descriptor, src Source) error {
	blobs := d.c.store.Blobs()
	if blobs.Has(desc.Digest) {
		return nil
	}
	r, err := src.Open(ctx, desc, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := blobs.Writer(ctx)
	if err != nil {
		return err
	}
	defer w.Close()
	m := &progress.Writer{W: w, To: ProgressOf(ctx), Item: progress.Item(desc.Digest), Total: desc.Size}
	if _, err := io.Copy(m, r); err != nil {
		return fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	_, err = w.Commit(desc.Digest)
	return err
}

// Manifest implements Destination.
func (d *StoreDestination) Manifest(ctx context.Context, desc ocispec.Descriptor, raw []byte, root bool) error {
	if _, err := d.c.store.Blobs().Put(ctx, raw); err != nil {
		return err
	}
	if mediatype.IsIndex(desc.MediaType) {
		if root {
			d.index, d.raw = &desc, raw
		}
		return nil
	}
	img, err := d.c.imageOf(desc, raw)
	if errors.Is(err, image.ErrNoImage) {
		return nil // an attestation, or something else that only comes along
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.images = append(d.images, img)
	return nil
}

// imageOf makes an image of a manifest whose blobs are in the store.
func (c *Client) imageOf(desc ocispec.Descriptor, raw []byte) (*Image, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", desc.Digest, ErrInvalid, err)
	}
	if !mediatype.IsConfig(m.Config.MediaType) && !mediatype.IsUntold(m.Config.MediaType) {
		return nil, image.ErrNoImage
	}
	config, err := c.store.Blobs().ReadAll(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: digest.FromBytes(config), RawConfig: config, Manifest: &desc, RawManifest: raw}
	if cfg, err := image.DecodeConfig(config); err == nil && (cfg.OS == "unknown" || len(cfg.RootFS.DiffIDs) != len(m.Layers)) {
		return nil, image.ErrNoImage
	}
	if img.Config, err = image.ReadConfig(m, config); err != nil {
		return nil, err
	}
	for i, l := range m.Layers {
		diff := snapshot.DiffID(img.Config.RootFS.DiffIDs[i])
		layer, err := c.store.AddLazy(img.Stack, snapshot.LazyLayer{DiffID: diff, Blob: l, Open: c.keptWhole(l)})
		if err != nil {
			return nil, err
		}
		img.Stack = append(img.Stack, layer)
	}
	return img, nil
}

// Result stores what came under names, with its layers, and returns it.
func (d *StoreDestination) Result(ctx context.Context, names ...string) (*Index, error) {
	if len(d.images) == 0 {
		return nil, fmt.Errorf("%w: there is no image in it", ErrInvalid)
	}
	for _, img := range d.images {
		if err := d.c.store.Materialize(ctx, img.Stack); err != nil {
			return nil, err
		}
		img.Stack = d.c.images.Refresh(img.Stack)
	}
	if d.index != nil {
		sortAs(d.images, d.raw)
	}
	x := &Index{Images: d.images, Descriptor: d.index, Raw: d.raw}
	if len(x.Images) == 1 && d.index == nil {
		return x, d.c.images.Put(ctx, x.Images[0], names...)
	}
	return x, d.c.images.PutIndex(ctx, x, names...)
}

// sortAs puts images in the order of an index. They came as they were copied.
func sortAs(images []*Image, raw []byte) {
	var index ocispec.Index
	_ = json.Unmarshal(raw, &index) // it has been read before
	at := map[digest.Digest]int{}
	for i, m := range index.Manifests {
		at[m.Digest] = i
	}
	slices.SortStableFunc(images, func(a, b *Image) int { return at[a.Manifest.Digest] - at[b.Manifest.Digest] })
}
