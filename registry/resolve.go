package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/remote"
	"layered.build/builder/registry/routing"
	"layered.build/builder/registry/transport"
)

// Limits of what is read into memory.
const (
	maxConfig = 16 << 20
	maxDepth  = 4 // of indexes in indexes
)

// Resolve finds the image that ref means for a platform (zero: this machine's),
// without its layers. A reference by digest whose metadata the store has makes
// no request. An image that is not part of an index is taken whatever its
// platform is; see Resolved.Platform.
func (c *Client) Resolve(ctx context.Context, ref string, platform ocispec.Platform) (*Resolved, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if platform.OS == "" && platform.Architecture == "" {
		platform = platforms.DefaultSpec()
	}
	eps, err := c.routes.Pull(r)
	if err != nil {
		return nil, err
	}
	f := &fetcher{c: c, ref: r, eps: eps}
	out, err := f.resolve(ctx, platforms.Only(platforms.Normalize(platform)))
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", r.Familiar(), err)
	}
	return out, nil
}

// Resolved is one platform's image in a registry: all of its metadata, none of
// its layers.
type Resolved struct {
	// Ref is the normalised reference (docker.io/library/alpine:3.20).
	Ref string
	// Descriptor names the manifest of the chosen platform.
	Descriptor ocispec.Descriptor
	// Index names the multi-platform index that it was chosen from, if any.
	Index *ocispec.Descriptor
	// Platform is what the image's configuration says.
	Platform ocispec.Platform
	// RawManifest and RawConfig are the bytes that the digests are of.
	RawManifest, RawConfig []byte
	Config                 ImageConfig
	// Layers are the compressed layers, lowest first.
	Layers []ocispec.Descriptor
}

// Digest returns the digest of the platform's manifest.
func (r *Resolved) Digest() digest.Digest { return r.Descriptor.Digest }

// fetcher gets the parts of one image from wherever they are.
type fetcher struct {
	c   *Client
	ref Reference
	eps []routing.Endpoint
}

func (f *fetcher) resolve(ctx context.Context, match platforms.MatchComparer) (*Resolved, error) {
	raw, desc, err := f.manifest(ctx, f.ref.Tag, ocispec.Descriptor{Digest: f.ref.Digest})
	if err != nil {
		return nil, err
	}
	out := &Resolved{Ref: f.ref.String()}
	for depth := 0; mediatype.IsIndex(desc.MediaType); depth++ {
		if depth == 0 {
			index := desc
			out.Index = &index
		}
		if depth == maxDepth {
			return nil, fmt.Errorf("%w: indexes are nested too deeply", ErrInvalid)
		}
		next, err := image.Choose(raw, match, look(ctx, fetched{f}))
		if err != nil {
			return nil, err
		}
		if raw, desc, err = f.manifest(ctx, "", next); err != nil {
			return nil, err
		}
	}
	out.Descriptor, out.RawManifest = desc, raw
	return out, f.config(ctx, out)
}

func (f *fetcher) config(ctx context.Context, out *Resolved) error {
	var m ocispec.Manifest
	if err := json.Unmarshal(out.RawManifest, &m); err != nil {
		return fmt.Errorf("manifest %s: %w: %w", out.Digest(), ErrInvalid, err)
	}
	if !mediatype.IsConfig(m.Config.MediaType) && !mediatype.IsUntold(m.Config.MediaType) {
		return fmt.Errorf("manifest %s: %w: it is no image but %q", out.Digest(), ErrInvalid, m.Config.MediaType)
	}
	raw, err := f.smallBlob(ctx, m.Config)
	if err != nil {
		return err
	}
	if out.Config, err = image.ReadConfig(m, raw); err != nil {
		if errors.Is(err, image.ErrNoImage) {
			err = fmt.Errorf("%w: it is no image but %q", ErrInvalid, m.Config.MediaType)
		}
		return fmt.Errorf("manifest %s: %w", out.Digest(), err)
	}
	out.RawConfig, out.Layers, out.Platform = raw, m.Layers, out.Config.Platform
	return nil
}

// manifest gets a manifest or index by digest, from the store if it is there, or
// by tag.
func (f *fetcher) manifest(ctx context.Context, tag string, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	if want.Digest != "" {
		raw, err := f.c.local(want.Digest)
		if err != nil {
			return nil, want, err
		}
		if raw != nil {
			desc, err := image.Describe(raw, "", want)
			return raw, desc, err
		}
		tag = want.Digest.String()
	}
	var raw []byte
	var mediaType string
	get := func(s *transport.Session) error {
		var err error
		raw, mediaType, err = remote.GetManifest(ctx, s, tag, want)
		return err
	}
	err := f.each(ctx, transport.Call{Op: "get manifest", Object: tag, Do: get})
	if err != nil {
		return nil, want, err
	}
	desc, err := image.Describe(raw, mediaType, want)
	if err != nil {
		return nil, want, err
	}
	if _, err := f.c.store.Blobs().Put(ctx, raw); err != nil {
		return nil, want, fmt.Errorf("store manifest %s: %w", desc.Digest, err)
	}
	return raw, desc, nil
}

// local reads a small blob of the store, nil if it is not there. A damaged one is
// removed, so that it is fetched again.
func (c *Client) local(d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w: %w", d, ErrInvalid, err)
	}
	raw, err := c.store.Blobs().ReadAll(d)
	if errors.Is(err, ErrBadDigest) {
		return nil, c.store.Blobs().Remove(d)
	}
	if err != nil {
		return nil, nil // what cannot be read here can be fetched
	}
	return raw, nil
}

// smallBlob gets a blob that fits in memory, a configuration.
func (f *fetcher) smallBlob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if raw, err := f.c.local(desc.Digest); err != nil || raw != nil {
		return raw, err
	}
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("configuration %s: %w: %d bytes", desc.Digest, ErrInvalid, desc.Size)
	}
	var raw []byte
	err := f.each(ctx, transport.Call{Op: "get configuration", Object: desc.Digest.String(), Do: func(s *transport.Session) error {
		body, err := remote.GetBlob(ctx, s, desc, 0)
		if err != nil {
			return err
		}
		defer body.Close()
		if raw, err = remote.ReadLimited(body, maxConfig); err != nil {
			return err
		}
		return image.Verify(raw, desc)
	}})
	if err != nil {
		return nil, err
	}
	if _, err := f.c.store.Blobs().Put(ctx, raw); err != nil {
		return nil, fmt.Errorf("store configuration %s: %w", desc.Digest, err)
	}
	return raw, nil
}

// fetched is the metadata of a fetcher, which the store keeps.
type fetched struct{ *fetcher }

// Manifest implements metadata.
func (f fetched) Manifest(ctx context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	return f.manifest(ctx, "", want)
}

func (f fetched) small(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return f.smallBlob(ctx, desc)
}

// each asks the places where an image may be, one after the other, each of them
// several times if it fails for a passing reason. The error is that of the last,
// the origin.
func (f *fetcher) each(ctx context.Context, do transport.Call) error {
	var mirrors []error
	for _, ep := range f.eps {
		if f.c.pool.Rests(ep) {
			continue
		}
		err := f.c.pool.Pull(ctx, ep, do)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !ep.Mirror {
			return withMirrors(err, mirrors)
		}
		mirrors = append(mirrors, err)
	}
	return errors.Join(mirrors...)
}

// withMirrors adds the failures of mirrors to that of the origin, and what to do.
func withMirrors(err error, mirrors []error) error {
	var origin *Error
	if errors.As(err, &origin) && origin.Kind == ErrUnreachable && origin.Hint == "" {
		origin.Hint = unreachableHint(mirrors)
	}
	if len(mirrors) == 0 {
		return err
	}
	var text []string
	for _, m := range mirrors {
		text = append(text, m.Error())
	}
	return fmt.Errorf("%w (mirrors failed too: %s)", err, strings.Join(text, "; "))
}

// unreachableHint says what to do about an origin that cannot be reached after mirrors
// have failed; "" is nothing particular.
func unreachableHint(mirrors []error) string {
	switch {
	case len(mirrors) == 0:
		return "is the network up? A mirror is named with --registry-mirror REGISTRY=URL or $BUILDER_REGISTRY_MIRROR"
	case slices.ContainsFunc(mirrors, func(m error) bool { return errors.Is(m, ErrNotFound) }):
		return "is the name right? A mirror answered that it has no such image, and the registry itself cannot be asked"
	}
	return ""
}
