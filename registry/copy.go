package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
)

// Source has one image, or an image for several platforms, as it is: in a registry,
// an OCI layout, or the store.
type Source interface {
	// Manifest returns a manifest or an index: what the source was opened for if want
	// is zero, otherwise that with the digest, verified.
	Manifest(ctx context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error)
	// Open reads a blob from an offset on.
	Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Destination takes what a Source has. Its methods are called from several
// goroutines at once.
type Destination interface {
	// Blob takes a blob, if it lacks it, and verifies it.
	Blob(ctx context.Context, desc ocispec.Descriptor, src Source) error
	// Manifest takes a manifest whose blobs it has, or an index of manifests that it
	// has; the last one, root, is what the copy is of.
	Manifest(ctx context.Context, desc ocispec.Descriptor, raw []byte, root bool) error
}

// CopyOptions say what of an image is copied.
type CopyOptions struct {
	// Platforms are those that are wanted; none means all that there is, bit for bit.
	// Of one platform its manifest is copied, of several a smaller index.
	Platforms []ocispec.Platform
	// Parallel is how many blobs are copied at once (0: 4).
	Parallel int
}

// Copy copies an image. Manifests, and with them digests, stay as they are. It
// returns the descriptor of what was copied.
func Copy(ctx context.Context, dst Destination, src Source, o CopyOptions) (ocispec.Descriptor, error) {
	raw, desc, err := src.Manifest(ctx, ocispec.Descriptor{})
	if err != nil {
		return desc, err
	}
	if len(o.Platforms) > 0 && mediatype.IsIndex(desc.MediaType) {
		if raw, desc, err = choosePlatforms(ctx, src, raw, desc, o.Platforms); err != nil {
			return desc, err
		}
	}
	c := &copying{src: src, dst: dst, blobs: map[digest.Digest]func() error{}}
	c.limit = make(chan struct{}, max(1, o.Parallel))
	return desc, c.manifest(ctx, raw, desc, 0)
}

// choosePlatforms returns the manifest for the only platform, or an index of those
// for several.
func choosePlatforms(ctx context.Context, src Source, raw []byte, desc ocispec.Descriptor, wanted []ocispec.Platform) ([]byte, ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, desc, fmt.Errorf("index %s: %w: %w", desc.Digest, ErrInvalid, err)
	}
	var kept []ocispec.Descriptor
	for _, p := range wanted {
		m, err := image.Choose(raw, platforms.Only(platforms.Normalize(p)), Look(ctx, src))
		if err != nil {
			return nil, desc, err
		}
		if !slices.ContainsFunc(kept, func(k ocispec.Descriptor) bool { return k.Digest == m.Digest }) {
			kept = append(kept, m)
		}
	}
	if len(kept) == 1 {
		return src.Manifest(ctx, kept[0])
	}
	index.Manifests = kept
	raw, err := json.MarshalIndent(index, "", "  ")
	return raw, ocispec.Descriptor{MediaType: desc.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, err
}

type copying struct {
	src   Source
	dst   Destination
	limit chan struct{} // how many blobs at once

	mu    sync.Mutex
	blobs map[digest.Digest]func() error // guarded by mu; each does its work once
}

// manifest copies a manifest and all below it.
func (c *copying) manifest(ctx context.Context, raw []byte, desc ocispec.Descriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: indexes are nested too deeply", ErrInvalid)
	}
	var doc struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("manifest %s: %w: %w", desc.Digest, ErrInvalid, err)
	}
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, m := range doc.Manifests {
		group.Go(func() error {
			raw, m, err := c.src.Manifest(gctx, m)
			if err != nil {
				return err
			}
			return c.manifest(gctx, raw, m, depth+1)
		})
	}
	for _, b := range doc.Layers {
		if !mediatype.IsForeign(b) {
			group.Go(func() error { return c.blob(gctx, b) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.dst.Manifest(ctx, desc, raw, depth == 0)
}

func (c *copying) blob(ctx context.Context, desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w: %w", desc.Digest, ErrInvalid, err)
	}
	c.mu.Lock()
	do := c.blobs[desc.Digest]
	if do == nil {
		do = sync.OnceValue(func() error {
			select {
			case c.limit <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			defer func() { <-c.limit }()
			return c.dst.Blob(ctx, desc, c.src)
		})
		c.blobs[desc.Digest] = do
	}
	c.mu.Unlock()
	return do()
}

// remoteSource is an image in a registry.
type remoteSource struct{ f *fetcher }

// Source opens an image in a registry.
func (c *Client) Source(ref string) (Source, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	eps, err := c.routes.Pull(r)
	if err != nil {
		return nil, err
	}
	return &remoteSource{&fetcher{c: c, ref: r, eps: eps}}, nil
}

// Manifest implements Source.
func (s *remoteSource) Manifest(ctx context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	if want.Digest != "" {
		return s.f.manifest(ctx, "", want)
	}
	return s.f.manifest(ctx, s.f.ref.Tag, ocispec.Descriptor{Digest: s.f.ref.Digest})
}

// Open implements Source. Who takes the blob tells how far it is.
func (s *remoteSource) Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	src := &blobSource{c: s.f.c, desc: desc, refs: []Reference{s.f.ref}}
	return src.open(WithProgress(ctx, nil), offset)
}

// remoteDestination is a name in a registry.
type remoteDestination struct {
	p    *pusher
	from string // a repository of the same registry that has the blobs, or ""
}

// Destination opens a name in a registry for what src has.
func (c *Client) Destination(ref string, src Source, opts PushOptions) (Destination, error) {
	p, err := c.newPusher(ref, opts)
	if err != nil {
		return nil, err
	}
	d := &remoteDestination{p: p}
	var scopes []string
	if remote, ok := src.(*remoteSource); ok {
		if ep, err := c.routes.Push(remote.f.ref); err == nil && ep.Host == p.ep.Host && ep.Repo != p.ep.Repo {
			d.from = ep.Repo
			scopes = append(scopes, "repository:"+ep.Repo+":pull")
		}
	}
	return d, p.open(scopes)
}

// Blob implements Destination.
func (d *remoteDestination) Blob(ctx context.Context, desc ocispec.Descriptor, src Source) error {
	if there, err := d.p.has(ctx, desc); err != nil || there {
		return err
	}
	if d.from != "" {
		if mounted, _ := d.p.repo.Mount(ctx, desc.Digest, d.from); mounted { // what is not is sent
			notSent(ctx, desc, "mounted from "+d.from)
			return nil
		}
	}
	return d.p.repo.Upload(ctx, desc, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return src.Open(ctx, desc, offset)
	})
}

// Manifest implements Destination.
func (d *remoteDestination) Manifest(ctx context.Context, desc ocispec.Descriptor, raw []byte, root bool) error {
	name := desc.Digest.String()
	if root {
		name = d.p.name(desc)
	}
	return d.p.repo.PutManifest(ctx, name, desc, raw)
}
