package registry

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
)

// CompleteIndex makes sure that all blobs of all images are in the store, and
// returns the index's descriptor and bytes, and the images' manifests.
func (c *Client) CompleteIndex(ctx context.Context, x *Index) (ocispec.Descriptor, []byte, []ocispec.Descriptor, error) {
	var members []ocispec.Descriptor
	for _, img := range x.Images {
		desc, raw, err := c.Complete(ctx, img)
		if err != nil {
			return ocispec.Descriptor{}, nil, nil, err
		}
		for _, blob := range [][]byte{raw, img.RawConfig} {
			if _, err := c.store.Blobs().Put(ctx, blob); err != nil {
				return ocispec.Descriptor{}, nil, nil, fmt.Errorf("complete image %s: %w", img.ID, err)
			}
		}
		members = append(members, img.Member(desc))
	}
	desc, raw, err := x.Encode(members)
	if err != nil {
		return desc, nil, nil, err
	}
	if _, err := c.store.Blobs().Put(ctx, raw); err != nil {
		return desc, nil, nil, fmt.Errorf("store index %s: %w", desc.Digest, err)
	}
	return desc, raw, members, nil
}

// Describe returns the descriptor of the index, or of the manifest of the only image,
// as it would be pushed. The images have their manifests then.
func (c *Client) Describe(ctx context.Context, x *Index) (ocispec.Descriptor, error) {
	images := slices.Clone(x.Images)
	for i, img := range images {
		desc, raw, err := c.Complete(ctx, img)
		if err != nil {
			return desc, err
		}
		known := *img
		known.Manifest, known.RawManifest = &desc, raw
		images[i] = &known
	}
	x.Images = images
	if len(images) == 1 {
		return *images[0].Manifest, nil
	}
	desc, raw, _, err := c.CompleteIndex(ctx, x)
	if err == nil {
		x.Descriptor, x.Raw = &desc, raw
	}
	return desc, err
}

// PushIndex sends images, and under a name the index of them; it returns the
// index's descriptor. What the registry has already is not sent.
func (c *Client) PushIndex(ctx context.Context, ref string, x *Index, opts PushOptions) (ocispec.Descriptor, error) {
	p, err := c.pusher(ref, x.Stack(), opts)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("push %s: %w", ref, err)
	}
	desc, raw, err := p.pushIndex(ctx, x)
	if err != nil {
		return desc, fmt.Errorf("push %s: %w", p.ref.Familiar(), err)
	}
	return desc, c.images.NotePushIndex(ctx, x, p.ref.String(), desc, raw)
}

func (p *pusher) pushIndex(ctx context.Context, x *Index) (ocispec.Descriptor, []byte, error) {
	var members []ocispec.Descriptor
	for _, img := range x.Images {
		desc, raw, err := p.contents(ctx, img)
		if err == nil {
			err = p.repo.PutManifest(ctx, desc.Digest.String(), desc, raw)
		}
		if err != nil {
			return desc, nil, fmt.Errorf("%s: %w", platforms.FormatAll(img.Config.Platform), err)
		}
		members = append(members, img.Member(desc))
	}
	desc, raw, err := x.Encode(members)
	if err != nil {
		return desc, nil, err
	}
	return desc, raw, p.repo.PutManifest(ctx, p.name(desc), desc, raw)
}

// name is what a manifest is called in the registry.
func (p *pusher) name(desc ocispec.Descriptor) string {
	if p.opts.ByDigest {
		return desc.Digest.String()
	}
	return p.ref.Tag
}

// PullIndex fetches an image for several platforms (none: all that it has, which may be
// one) and names them together.
func (c *Client) PullIndex(ctx context.Context, ref string, wanted []ocispec.Platform) (*Index, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	eps, err := c.routes.Pull(r)
	if err != nil {
		return nil, err
	}
	f := &fetcher{c: c, ref: r, eps: eps}
	raw, desc, err := f.manifest(ctx, r.Tag, ocispec.Descriptor{Digest: r.Digest})
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", r.Familiar(), err)
	}
	if !mediatype.IsIndex(desc.MediaType) && len(wanted) == 0 {
		img, err := c.fetchImage(ctx, ref, ocispec.Platform{})
		if err != nil {
			return nil, err
		}
		return &Index{Images: []*Image{img}, Descriptor: img.Manifest, Raw: img.RawManifest}, c.images.Put(ctx, img, img.Names...)
	}
	if !mediatype.IsIndex(desc.MediaType) {
		return nil, fmt.Errorf("pull %s: %w: it is an image of one platform", r.Familiar(), ErrInvalid)
	}
	if len(wanted) == 0 {
		if wanted, err = image.Platforms(raw, look(ctx, fetched{f})); err != nil {
			return nil, fmt.Errorf("pull %s: %w", r.Familiar(), err)
		}
	}
	x := &Index{}
	var members []ocispec.Descriptor
	for _, p := range wanted {
		img, err := c.fetchImage(ctx, ref, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", platforms.FormatAll(p), err)
		}
		x.Images = append(x.Images, img)
		members = append(members, *img.Manifest)
	}
	if image.SameMembers(raw, members) {
		x.Descriptor, x.Raw = &desc, raw
	}
	return x, c.images.PutIndex(ctx, x, r.String())
}
