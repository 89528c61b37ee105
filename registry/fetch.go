package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/remote"
	"layered.build/builder/registry/routing"
	"layered.build/builder/registry/transport"
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
	return snapshot.LazyLayer{DiffID: diff, Blob: desc, Open: src.open}
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

// blobSource opens one blob, as often as the store wants it.
type blobSource struct {
	c    *Client
	desc ocispec.Descriptor
	refs []Reference

	mu sync.Mutex
	// begun says that the blob has been read from its beginning before: since
	// breaks are mended in the reader, its content must have been wrong.
	begun bool // guarded by mu
	// failed is the last failure, at and when. The store tries again what fails,
	// but the reader has done that already.
	failed error     // guarded by mu
	at     int64     // guarded by mu
	when   time.Time // guarded by mu
}

// failureAge is how long a failure speaks for itself.
const failureAge = 10 * time.Second

// open reads the blob from an offset on, going on where it stopped when a
// connection breaks, and going elsewhere when a mirror cannot help.
func (src *blobSource) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	src.mu.Lock()
	err, again := src.failed, src.begun && offset == 0
	if src.at != offset || time.Since(src.when) > failureAge {
		err = nil
	}
	src.begun = src.begun || offset == 0
	src.mu.Unlock()
	if err != nil {
		return nil, err
	}
	b := &blobReader{ctx: ctx, c: src.c, src: src, desc: src.desc, progress: ProgressOf(ctx), at: offset}
	for _, ref := range src.refs {
		eps, err := src.c.routes.Pull(ref)
		if err != nil {
			return nil, err
		}
		for _, ep := range eps {
			if !ep.Mirror || !again {
				b.eps = append(b.eps, ep)
			}
		}
	}
	if err := b.connect(); err != nil {
		return nil, src.fail(ctx, offset, err)
	}
	return b, nil
}

// fail remembers a failure that is not the caller's own wish.
func (src *blobSource) fail(ctx context.Context, at int64, err error) error {
	if ctx.Err() == nil {
		src.mu.Lock()
		defer src.mu.Unlock()
		src.failed, src.at, src.when = err, at, time.Now()
	}
	return err
}

// blobReader is the content of one blob.
type blobReader struct {
	ctx      context.Context //nolint:containedctx // the reader lives as long as the fetch
	c        *Client
	src      *blobSource
	desc     ocispec.Descriptor
	eps      []routing.Endpoint
	progress Progress

	ep    int // index into eps of the current one
	body  io.ReadCloser
	at    int64
	fails int // in a row without any byte
}

// connect opens the blob at the current offset, at the current endpoint or one
// after it.
func (b *blobReader) connect() error {
	var failed []error
	for ; b.ep < len(b.eps); b.ep++ {
		if b.c.pool.Rests(b.eps[b.ep]) {
			continue
		}
		err := b.c.pool.Pull(b.ctx, b.eps[b.ep], transport.Call{Op: "get layer", Object: b.desc.Digest.String(), Do: func(s *transport.Session, _ *http.Response) error {
			body, err := remote.GetBlob(b.ctx, s, b.desc, b.at)
			b.body = body
			return err
		}})
		if err == nil || b.ctx.Err() != nil {
			return err
		}
		failed = append(failed, err)
	}
	for _, u := range b.desc.URLs {
		body, err := b.c.foreign(b.ctx, u, b.at, b.desc.Size)
		if err == nil {
			b.body = body
			return nil
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return &Error{Kind: ErrNotFound, Op: "get layer", Object: b.desc.Digest.String()}
	}
	last := len(failed) - 1
	return withMirrors(failed[last], failed[:last])
}

// foreign reads a layer that its registry must not distribute, from where its
// descriptor says, without credentials.
func (c *Client) foreign(ctx context.Context, where string, offset, size int64) (io.ReadCloser, error) {
	ep, err := c.routes.URL(where)
	if err != nil {
		return nil, err
	}
	s, err := c.pool.Anonymous(ep)
	if err != nil {
		return nil, err
	}
	var body io.ReadCloser
	err = c.pool.Again(ctx, func() error {
		var err error
		body, err = remote.GetURL(ctx, s, where, offset, size)
		return s.Fail("get foreign layer", config.RedactUserinfo(where), err)
	})
	return body, err
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		if n > 0 {
			b.advance(p[:n])
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF && b.at >= b.desc.Size {
			return 0, io.EOF // the store verifies size and digest
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err := b.resume(err); err != nil {
			return 0, b.src.fail(b.ctx, b.at, err)
		}
	}
}

func (b *blobReader) advance(p []byte) {
	b.at += int64(len(p))
	b.fails = 0
	b.progress(progress.Item(b.desc.Digest), b.at, b.desc.Size)
}

// resume goes on after a failure, unless nothing has come for several attempts.
func (b *blobReader) resume(cause error) error {
	b.body.Close()
	b.fails++
	host := ""
	if b.ep < len(b.eps) {
		host = b.eps[b.ep].Host
	}
	err := transport.Fail(host, credentials.Credential{}, "get layer", b.desc.Digest.String(), cause)
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.fails >= b.c.pool.Attempts() {
		if b.ep+1 >= len(b.eps) {
			return err
		}
		b.ep, b.fails = b.ep+1, 0
	}
	if err := b.c.pool.Pause(b.ctx, b.fails); err != nil {
		return err
	}
	return b.connect()
}

// Close implements io.Closer.
func (b *blobReader) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
