package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry/imagestore"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/routing"
	"layered.build/builder/registry/transport"
	"layered.build/builder/snapshot"
)

// pusher sends blobs to one repository.
type pusher struct {
	c    *Client
	ref  Reference
	ep   routing.Endpoint
	s    *transport.Session
	opts PushOptions
}

// Push sends an image under a name and returns its manifest's descriptor. An
// image that has a manifest keeps it, and its blobs, bit for bit. What the
// registry has already is not sent.
func (c *Client) Push(ctx context.Context, ref string, img *Image, opts PushOptions) (ocispec.Descriptor, error) {
	p, err := c.pusher(ctx, ref, img.Stack, opts)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push %s: %w", ref, err)
	}
	desc, raw, err := p.contents(ctx, img)
	if err == nil {
		err = p.manifest(ctx, p.name(desc), desc, raw)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push %s: %w", p.ref.Familiar(), err)
	}
	return desc, c.images.NotePush(ctx, img.ID, p.ref.String(), desc, raw)
}

// PushLayers sends the layers of a stack ahead of a Push of an image that has
// them, while the rest of it is still being made.
func (c *Client) PushLayers(ctx context.Context, ref string, stack snapshot.Stack, opts PushOptions) error {
	p, err := c.pusher(ctx, ref, stack, opts)
	var keep []ocispec.Descriptor
	if err == nil && opts.Compression != (Compression{}) {
		keep, err = c.shapeLayers(ctx, stack, Form{Compression: opts.Compression})
	}
	if err == nil {
		_, err = p.layers(ctx, stack, keep)
	}
	if err != nil {
		return fmt.Errorf("push layers to %s: %w", ref, err)
	}
	return nil
}

func (c *Client) pusher(ctx context.Context, name string, stack snapshot.Stack, opts PushOptions) (*pusher, error) {
	p, err := c.newPusher(name, opts)
	if err != nil {
		return nil, err
	}
	return p, p.open(ctx, p.scopes(stack))
}

// scopes are the rights that mounting layers of a stack needs.
func (p *pusher) scopes(stack snapshot.Stack) []string {
	var scopes []string
	for _, repo := range p.mountable(stack...) {
		scopes = append(scopes, "repository:"+repo+":pull")
	}
	return scopes
}

// work is the name of the sending of a layer.
func (p *pusher) work(l snapshot.Layer) string {
	return "push " + p.ep.Host + "/" + p.ep.Repo + " " + string(l.DiffID)
}

func (c *Client) newPusher(name string, opts PushOptions) (*pusher, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return nil, fmt.Errorf("%w: a digest follows from the content, it cannot be chosen", ErrInvalid)
	}
	ep, err := c.routes.Push(ref)
	if err != nil {
		return nil, err
	}
	if opts.Insecure {
		ep.SkipVerify, ep.Schemes = true, []string{"https", "http"}
	}
	return &pusher{c: c, ref: ref, ep: ep, opts: opts}, nil
}

// open logs in; scopes are what else is to be used.
func (p *pusher) open(ctx context.Context, scopes []string) error {
	return p.c.pool.Again(ctx, func() (err error) {
		p.s, err = p.c.pool.Open(ctx, p.ep, "push,pull", scopes...)
		return err
	})
}

// mountable lists the repositories of the same registry that have one of the
// layers.
func (p *pusher) mountable(layers ...snapshot.Layer) []string {
	var repos []string
	for _, l := range layers {
		o, err := p.c.images.Origin(l.DiffID)
		if err != nil || o == nil {
			continue
		}
		for _, r := range o.AllRepositories() {
			ref, err := ParseReference(r)
			if err != nil || ref.Domain != p.ref.Domain || ref.Path == p.ref.Path {
				continue
			}
			if ep, err := p.c.routes.Push(ref); err == nil && ep.Host == p.ep.Host && !slices.Contains(repos, ep.Repo) {
				repos = append(repos, ep.Repo)
			}
		}
	}
	return repos[:min(len(repos), imagestore.MaxRepositories)]
}

// contents sends all of an image but its manifest, which it returns.
func (p *pusher) contents(ctx context.Context, img *Image) (ocispec.Descriptor, []byte, error) {
	keep, err := img.KeptLayers()
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	layers, err := p.layers(ctx, img.Stack, keep)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.ID, Size: int64(len(img.RawConfig))}
	if err := p.config(ctx, config, img.RawConfig); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if keep != nil {
		return *img.Manifest, img.RawManifest, nil
	}
	return NewManifest(config, layers, p.opts.DockerTypes)
}

// layers sends the layers, several at once. If keep is not nil, it says which
// blobs they must be.
func (p *pusher) layers(ctx context.Context, stack snapshot.Stack, keep []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	descs := make([]ocispec.Descriptor, len(stack))
	group, ctx := errgroup.WithContext(ctx)
	for i := range stack {
		group.Go(func() error {
			var want *ocispec.Descriptor
			name := p.work(stack[i])
			if keep != nil {
				want = &keep[i]
				name += " " + want.Digest.String()
			}
			desc, err := p.c.once(ctx, name, func() (ocispec.Descriptor, error) { return p.layer(ctx, stack[:i+1], want) })
			if err != nil {
				return fmt.Errorf("layer %s: %w", stack[i].DiffID, err)
			}
			descs[i] = desc
			return nil
		})
	}
	return descs, group.Wait()
}

func (p *pusher) layer(ctx context.Context, stack snapshot.Stack, want *ocispec.Descriptor) (ocispec.Descriptor, error) {
	if err := p.c.transfers.Acquire(ctx, 1); err != nil {
		return ocispec.Descriptor{}, err
	}
	defer p.c.transfers.Release(1)
	l := stack[len(stack)-1]
	desc, err := p.send(ctx, stack, want)
	if err != nil {
		return desc, err
	}
	return desc, p.known(l, desc)
}

// known remembers that the repository has a layer.
func (p *pusher) known(l snapshot.Layer, desc ocispec.Descriptor) error {
	if mediatype.IsForeign(desc) || !p.c.usual(l, desc) {
		return nil
	}
	return p.c.images.AddOrigin(l.DiffID, desc, p.ref.Repository())
}

// send makes sure that the registry has the last layer of a stack.
func (p *pusher) send(ctx context.Context, stack snapshot.Stack, want *ocispec.Descriptor) (ocispec.Descriptor, error) {
	l := stack[len(stack)-1]
	known, ok := p.c.knownBlob(l)
	if want != nil {
		known, ok = *want, true
	}
	if !ok {
		made := false
		desc, err := p.c.once(ctx, "blob "+string(l.DiffID), func() (ocispec.Descriptor, error) {
			made = true
			return p.stream(ctx, l)
		})
		if made {
			return desc, err
		}
		if err != nil { // of another registry
			return p.stream(ctx, l)
		}
		known = desc
	}
	if want != nil && mediatype.IsForeign(known) { // its manifest says where it is
		return known, nil
	}
	there, err := p.has(ctx, known)
	if err != nil || there {
		p.report(ctx, known, there)
		return known, err
	}
	mounted, err := p.mount(ctx, l, known)
	if err != nil || mounted {
		p.report(ctx, known, mounted)
		return known, err
	}
	if err := p.c.ensureBlob(ctx, stack, known); err != nil {
		if want != nil || ctx.Err() != nil {
			return known, err
		}
		return p.stream(ctx, l)
	}
	return known, p.uploading(known).run(ctx)
}

// report tells that a blob need not be sent.
func (p *pusher) report(ctx context.Context, desc ocispec.Descriptor, there bool) {
	if there {
		ProgressOf(ctx)(progress.Item(desc.Digest), desc.Size, desc.Size)
	}
}

// stream compresses a layer and sends it meanwhile. The compressed form is kept,
// so that a broken connection does not cost the compression again.
func (p *pusher) stream(ctx context.Context, l snapshot.Layer) (ocispec.Descriptor, error) {
	pr, pw := io.Pipe()
	stop := func(err error) { pw.CloseWithError(err) }
	s := p.streaming(ctx, pr, stop, nil, func(err error) { pr.CloseWithError(errors.Join(err, io.ErrClosedPipe)) })
	tee := &progress.Writer{W: pw, To: ProgressOf(ctx), Item: progress.Item(digest.Digest(l.DiffID)), Total: -1}
	desc, err := p.c.compress(ctx, l, tee)
	if err != nil {
		s.giveUp(ctx, err)
		return desc, err
	}
	err = s.finish(ctx, desc)
	if err == nil {
		tee.To(tee.Item, desc.Size, desc.Size) // only now is the total known
	}
	return desc, p.s.Fail("push layer", desc.Digest.String(), err)
}

func (p *pusher) config(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	name := "push " + p.ep.Host + "/" + p.ep.Repo + " " + desc.Digest.String()
	_, err := p.c.once(ctx, name, func() (ocispec.Descriptor, error) {
		if there, err := p.has(ctx, desc); err != nil || there {
			return desc, err
		}
		u := &uploading{p: p, desc: desc, open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(raw[offset:])), nil
		}}
		return desc, u.run(ctx)
	})
	return err
}

// manifest sends a manifest or an index under a tag or its digest.
func (p *pusher) manifest(ctx context.Context, name string, desc ocispec.Descriptor, raw []byte) error {
	return p.c.pool.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, p.s.URL("/manifests/"+name), bytes.NewReader(raw))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", desc.MediaType)
		resp, err := p.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return p.s.Fail("push manifest", name, err)
		}
		transport.Drain(resp)
		if got := digest.Digest(resp.Header.Get("Docker-Content-Digest")); got != "" && got != desc.Digest {
			return p.s.Fail("push manifest", name, fmt.Errorf("%w: the registry stored %s instead of %s", ErrBadDigest, got, desc.Digest))
		}
		return nil
	})
}
