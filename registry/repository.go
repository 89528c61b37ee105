package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/remote"
	"layered.build/builder/registry/transport"
	"layered.build/builder/snapshot"
)

// Repository is one repository of a registry for whoever keeps something else than images
// there. Unlike those, what is read is not kept. It is safe for concurrent use.
type Repository struct {
	f    *fetcher
	push func() (*pusher, error) // opened once
}

// Repository finds the repository of a reference, whose tag does not matter. Nothing is
// asked yet.
func (c *Client) Repository(ref string, opts PushOptions) (*Repository, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	eps, err := c.routes.Pull(r)
	if err != nil {
		return nil, err
	}
	if opts.Insecure {
		for i := range eps {
			if !eps[i].Mirror {
				eps[i].SkipVerify, eps[i].Schemes = true, []string{"https", "http"}
			}
		}
	}
	repo := &Repository{f: &fetcher{c: c, ref: r, eps: eps}}
	repo.push = sync.OnceValues(func() (*pusher, error) {
		p, err := c.newPusher(r.Repository(), opts)
		if err != nil {
			return nil, err
		}
		return p, p.open(nil)
	})
	return repo, nil
}

// Name is the repository's, as docker writes it.
func (r *Repository) Name() string { return r.f.ref.Repository() }

// Manifest returns what a tag or a digest names. Errors match ErrNotFound if there is no
// such manifest.
func (r *Repository) Manifest(ctx context.Context, name string) ([]byte, ocispec.Descriptor, error) {
	want := ocispec.Descriptor{}
	if d, err := digest.Parse(name); err == nil {
		want.Digest = d
	}
	var raw []byte
	var mediaType string
	err := r.f.each(ctx, transport.Call{Op: "get manifest", Object: name, Do: func(s *transport.Session) error {
		var err error
		raw, mediaType, err = remote.GetManifest(ctx, s, name, want)
		return err
	}})
	if err != nil {
		return nil, want, err
	}
	desc, err := image.Describe(raw, mediaType, want)
	return raw, desc, err
}

// Open reads a blob from an offset on. What breaks goes on; the caller verifies the bytes.
func (r *Repository) Open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	src := &blobSource{c: r.f.c, desc: desc, refs: []Reference{r.f.ref}, eps: r.f.eps}
	return src.open(ctx, offset)
}

// Small reads and verifies a blob that fits in memory: one of at most most bytes.
func (r *Repository) Small(ctx context.Context, desc ocispec.Descriptor, most int64) ([]byte, error) {
	if desc.Size > most {
		return nil, fmt.Errorf("blob %s: %w: %d bytes", desc.Digest, ErrInvalid, desc.Size)
	}
	body, err := r.Open(WithProgress(ctx, nil), desc, 0)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, most+1))
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return raw, image.Verify(raw, desc)
}

// Has asks whether the repository has a blob.
func (r *Repository) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	p, err := r.push()
	if err != nil {
		return false, err
	}
	return p.repo.Has(ctx, desc)
}

// Send makes sure that the repository has a blob: it is taken from another repository of
// the registry that is known to have it as a form of the layer (""; none), or sent.
func (r *Repository) Send(ctx context.Context, desc ocispec.Descriptor, layer snapshot.DiffID, open remote.Opener) error {
	p, err := r.push()
	if err != nil {
		return err
	}
	if layer != "" {
		if mounted, err := p.mount(ctx, snapshot.Layer{DiffID: layer}, desc); err != nil || mounted {
			return err
		}
	}
	return p.repo.Upload(ctx, desc, open)
}

// SendLayer makes sure that the repository has the last layer of a stack, in the form that
// a Push to it sends, which is the same work: it is compressed while it is sent, unless
// there is a form of it already.
func (r *Repository) SendLayer(ctx context.Context, stack snapshot.Stack) (ocispec.Descriptor, error) {
	p, err := r.push()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	name := p.work(stack[len(stack)-1])
	return p.c.works.once(ctx, name, func() (ocispec.Descriptor, error) { return p.layer(ctx, stack, nil) })
}

// SendBytes is Send of what is in memory.
func (r *Repository) SendBytes(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	return r.Send(ctx, desc, "", func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw[offset:])), nil
	})
}

// Put gives a manifest, all of whose blobs are there, a tag.
func (r *Repository) Put(ctx context.Context, tag string, desc ocispec.Descriptor, raw []byte) error {
	p, err := r.push()
	if err != nil {
		return err
	}
	return p.repo.PutManifest(ctx, tag, desc, raw)
}

// Keep remembers that the repository has a compressed form of a layer, so that it can be
// fetched from there and need not be sent to other repositories of the registry.
func (r *Repository) Keep(layer snapshot.DiffID, desc ocispec.Descriptor) error {
	return r.f.c.images.AddOrigin(layer, desc, r.f.ref.Repository())
}

// KnownForm returns the compressed form that a layer is known to have.
func (c *Client) KnownForm(l snapshot.Layer) (ocispec.Descriptor, bool) { return c.knownBlob(l) }

// Form makes sure that a compressed form of the last layer of a stack is among the store's
// blobs, and describes it.
func (c *Client) Form(ctx context.Context, stack snapshot.Stack, how Compression) (ocispec.Descriptor, error) {
	return c.shapeLayer(ctx, stack, Form{Compression: how})
}

// Blob opens a blob of the store.
func (c *Client) Blob(desc ocispec.Descriptor) remote.Opener { return c.kept(desc) }
