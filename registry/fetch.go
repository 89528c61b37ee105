package registry

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// Layers registers the image's layers with the store, which fetches them when
// they are needed.
func (c *Client) Layers(ctx context.Context, r *Resolved) (snapshot.Stack, error) {
	ref, err := ParseReference(r.Ref)
	if err != nil {
		return nil, err
	}
	if len(r.Layers) != len(r.Config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("layers of %s: %w: %d blobs, %d diff ids", r.Ref, ErrInvalid, len(r.Layers), len(r.Config.RootFS.DiffIDs))
	}
	var stack snapshot.Stack
	for i, desc := range r.Layers {
		diff := snapshot.DiffID(r.Config.RootFS.DiffIDs[i])
		if err := c.images.AddOrigin(diff, desc, ref.Repository()); err != nil {
			return nil, err
		}
		l, err := c.store.AddLazy(stack, c.lazy(diff, desc, ref))
		if err != nil {
			return nil, fmt.Errorf("register layer %s of %s: %w", desc.Digest, r.Ref, err)
		}
		stack = append(stack, l)
	}
	return stack, nil
}

func (c *Client) lazy(diff snapshot.DiffID, desc ocispec.Descriptor, refs ...Reference) snapshot.LazyLayer {
	src := &blobSource{c: c, desc: desc, refs: refs}
	return snapshot.LazyLayer{DiffID: diff, Blob: desc, Open: func(ctx context.Context) (io.ReadCloser, error) {
		return src.open(ctx, 0)
	}}
}

// Attach makes the layers of a stack fetchable that are not on disk, from where
// an earlier Layers (perhaps of another process) found them.
func (c *Client) Attach(stack snapshot.Stack) error {
	for i, l := range stack {
		if _, ok := c.store.Lookup(stack[:i+1].ChainID()); ok || c.store.Has(l.ID) {
			continue
		}
		if known, ok := c.store.Lazy(l.ID); ok && known.Open != nil {
			continue
		}
		if err := c.attach(stack[:i], l); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) attach(parent snapshot.Stack, l snapshot.Layer) error {
	o, err := c.images.Origin(l.DiffID)
	if err != nil {
		return err
	}
	if o == nil {
		return fmt.Errorf("layer %s: %w: its data are gone, and no registry is known to have it", l.DiffID, ErrNotFound)
	}
	lazy := c.lazy(l.DiffID, o.Blob, o.References()...)
	lazy.Content = l.Content
	if _, err := c.store.AddLazy(parent, lazy); err != nil {
		return fmt.Errorf("register layer %s: %w", l.DiffID, err)
	}
	return nil
}

// Pull resolves an image, fetches its layers and names it.
func (c *Client) Pull(ctx context.Context, ref string, platform ocispec.Platform) (*Image, error) {
	img, err := c.fetchImage(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	return img, c.images.Put(ctx, img, img.Names...)
}

// fetchImage resolves an image and fetches its layers.
func (c *Client) fetchImage(ctx context.Context, ref string, platform ocispec.Platform) (*Image, error) {
	r, err := c.Resolve(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	stack, err := c.Layers(ctx, r)
	if err != nil {
		return nil, err
	}
	if err = c.store.Materialize(ctx, stack); err != nil && ctx.Err() == nil {
		// What a mirror damaged is fetched from the origin the second time.
		err = c.store.Materialize(ctx, stack)
	}
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", r.Ref, err)
	}
	desc := r.Descriptor
	return &Image{
		ID: digest.FromBytes(r.RawConfig), RawConfig: r.RawConfig, Config: r.Config,
		Stack: c.images.Refresh(stack), Manifest: &desc, RawManifest: r.RawManifest, Names: []string{r.Ref},
	}, nil
}
