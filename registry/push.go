package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/imagestore"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/remote"
	"layered.build/builder/registry/routing"
	"layered.build/builder/snapshot"
)

// pusher sends blobs to one repository.
type pusher struct {
	c    *Client
	ref  Reference
	ep   routing.Endpoint
	repo *remote.Repository // nil until open
	opts PushOptions
}

// Push sends an image under a name and returns its manifest's descriptor. An
// image that has a manifest keeps it, and its blobs, bit for bit. What the
// registry has already is not sent.
func (c *Client) Push(ctx context.Context, ref string, img *Image, opts PushOptions) (ocispec.Descriptor, error) {
	p, err := c.pusher(ref, img.Stack, opts)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push %s: %w", ref, err)
	}
	desc, raw, err := p.contents(ctx, img)
	if err == nil {
		err = p.repo.PutManifest(ctx, p.name(desc), desc, raw)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push %s: %w", p.ref.Familiar(), err)
	}
	return desc, c.images.NotePush(ctx, img.ID, p.ref.String(), desc, raw)
}

// PushLayers sends the layers of a stack ahead of a Push of an image that has
// them, while the rest of it is still being made.
func (c *Client) PushLayers(ctx context.Context, ref string, stack snapshot.Stack, opts PushOptions) error {
	p, err := c.pusher(ref, stack, opts)
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

func (c *Client) pusher(name string, stack snapshot.Stack, opts PushOptions) (*pusher, error) {
	p, err := c.newPusher(name, opts)
	if err != nil {
		return nil, err
	}
	return p, p.open(p.scopes(stack))
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
	if opts.ByDigest {
		ref.Tag = ""
	}
	if opts.Insecure {
		ep.SkipVerify, ep.Schemes = true, []string{"https", "http"}
	}
	return &pusher{c: c, ref: ref, ep: ep, opts: opts}, nil
}

// open finds a way to the repository; scopes are what else is to be used.
func (p *pusher) open(scopes []string) error {
	s, err := p.c.pool.Open(p.ep, "push,pull", scopes...)
	if err == nil {
		p.repo = remote.New(p.c.pool, s)
	}
	return err
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
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.ID, Size: int64(len(img.RawConfig))}
	var layers []ocispec.Descriptor
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		layers, err = p.layers(gctx, img.Stack, keep)
		return err
	})
	group.Go(func() error { return p.config(gctx, config, img.RawConfig) })
	if err := group.Wait(); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if keep != nil {
		return *img.Manifest, img.RawManifest, nil
	}
	return image.NewManifest(config, layers, Form{DockerTypes: p.opts.DockerTypes})
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
			desc, err := p.c.works.once(ctx, name, func() (ocispec.Descriptor, error) { return p.layer(ctx, stack[:i+1], want) })
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
	if want != nil && mediatype.IsForeign(known) { // its manifest says where it is
		return known, nil
	}
	if ok {
		if there, err := p.there(ctx, l, known); err != nil || there {
			return known, err
		}
	}
	if err := p.c.transfers.Acquire(ctx, 1); err != nil {
		return ocispec.Descriptor{}, err
	}
	defer p.c.transfers.Release(1)
	if !ok {
		made := false
		desc, err := p.c.works.once(ctx, "blob "+string(l.DiffID), func() (ocispec.Descriptor, error) {
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
		if there, err := p.there(ctx, l, known); err != nil || there {
			return known, err
		}
	}
	if err := p.c.ensureBlob(ctx, stack, known); err != nil {
		if want != nil || ctx.Err() != nil {
			return known, err
		}
		return p.stream(ctx, l)
	}
	return known, p.repo.Upload(ctx, known, p.c.kept(known))
}

// there reports whether the repository has a layer's blob, or could take it from another one.
// More of these questions are asked at once than blobs are sent.
func (p *pusher) there(ctx context.Context, l snapshot.Layer, desc ocispec.Descriptor) (bool, error) {
	if err := p.c.questions.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer p.c.questions.Release(1)
	if there, err := p.has(ctx, desc); err != nil || there {
		return there, err
	}
	return p.mount(ctx, l, desc)
}

// has asks whether the repository has a blob, and tells if it does: nothing is sent then.
func (p *pusher) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there, err := p.repo.Has(ctx, desc)
	if there && err == nil {
		notSent(ctx, desc, "already exists")
	}
	return there, err
}

// notSent tells why a blob need not be sent.
func notSent(ctx context.Context, desc ocispec.Descriptor, why string) {
	ProgressOf(ctx)(why+": "+progress.Item(desc.Digest), desc.Size, desc.Size)
}

// stream compresses a layer and sends it meanwhile. The compressed form is kept,
// so that a broken connection does not cost the compression again.
func (p *pusher) stream(ctx context.Context, l snapshot.Layer) (ocispec.Descriptor, error) {
	pr, pw := io.Pipe()
	stop := func(err error) { pw.CloseWithError(err) }
	open := func() (*remote.Repository, error) { return p.repo, nil }
	s := remote.StartStream(ctx, open, pr, stop, func(err error) { pr.CloseWithError(errors.Join(err, io.ErrClosedPipe)) })
	tee := &progress.Writer{W: pw, To: ProgressOf(ctx), Item: progress.Item(digest.Digest(l.DiffID)), Total: -1}
	desc, err := p.c.compress(ctx, l, tee)
	if err != nil {
		s.GiveUp(ctx, err)
		return desc, err
	}
	err = s.Finish(ctx, desc, p.c.kept(desc))
	if err == nil {
		tee.To(tee.Item, desc.Size, desc.Size) // only now is the total known
	}
	return desc, p.repo.Fail("push layer", desc.Digest.String(), err)
}

func (p *pusher) config(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	name := "push " + p.ep.Host + "/" + p.ep.Repo + " " + desc.Digest.String()
	_, err := p.c.works.once(ctx, name, func() (ocispec.Descriptor, error) {
		if there, err := p.has(ctx, desc); err != nil || there {
			return desc, err
		}
		return desc, p.repo.Upload(ctx, desc, func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(raw[offset:])), nil
		})
	})
	return err
}

// mount asks the registry to take a layer's blob from another of its repositories. A
// registry that does not want to is no failure.
func (p *pusher) mount(ctx context.Context, l snapshot.Layer, desc ocispec.Descriptor) (bool, error) {
	for _, from := range p.mountable(l) {
		mounted, err := p.repo.Mount(ctx, desc.Digest, from)
		if mounted {
			notSent(ctx, desc, "mounted from "+from)
		}
		if mounted || err != nil && ctx.Err() != nil {
			return mounted, err
		}
	}
	return false, nil
}
