package layout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/progress"
)

// nameAnnotation is how containerd, docker and BuildKit keep an image's full name
// in an index.
const nameAnnotation = "io.containerd.image.name"

// WriteOCI writes an OCI image layout as a tar: one entry of index.json for each
// name of each image. Images that have a manifest keep it.
func WriteOCI(ctx context.Context, w io.Writer, c *registry.Client, items ...Item) error {
	tw := tar.NewWriter(w)
	if err := WriteOCITo(ctx, tarSink{tw}, c, items...); err != nil {
		return err
	}
	return tw.Close()
}

// WriteOCITo is WriteOCI into a sink. A layout that is there is replaced, blobs stay.
func WriteOCITo(ctx context.Context, s Sink, c *registry.Client, items ...Item) error {
	if err := writeOCI(ctx, s, c, items); err != nil {
		return fmt.Errorf("write OCI layout: %w", err)
	}
	return nil
}

func writeOCI(ctx context.Context, s Sink, c *registry.Client, items []Item) error {
	var docker []dockerImage
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	blobs := map[digest.Digest]ocispec.Descriptor{}
	for _, it := range items {
		desc, err := addItem(ctx, c, it, blobs)
		if err != nil {
			return err
		}
		entries, err := indexEntries(it, desc)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, entries...)
		if it.Docker {
			d, err := dockerEntry(c, it, desc)
			if err != nil {
				return err
			}
			docker = append(docker, d)
		}
	}
	for _, d := range []string{"blobs", "blobs/sha256"} {
		if err := s.Dir(d); err != nil {
			return err
		}
	}
	for _, d := range slices.Sorted(maps.Keys(blobs)) {
		if err := copyBlob(ctx, s, c, blobs[d]); err != nil {
			return err
		}
	}
	if docker != nil {
		raw, err := json.Marshal(docker)
		if err == nil {
			err = small(s, "manifest.json", raw)
		}
		if err != nil {
			return err
		}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := small(s, ocispec.ImageIndexFile, raw); err != nil {
		return err
	}
	raw, err = json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return small(s, ocispec.ImageLayoutFile, raw)
}

// dockerEntry describes an image of the layout as docker does.
func dockerEntry(c *registry.Client, it Item, desc ocispec.Descriptor) (dockerImage, error) {
	raw, err := c.Store().Blobs().ReadAll(desc.Digest)
	if err != nil {
		return dockerImage{}, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return dockerImage{}, fmt.Errorf("manifest %s: %w: %w", desc.Digest, registry.ErrInvalid, err)
	}
	out := dockerImage{Config: blobPath(m.Config.Digest), Layers: []string{}}
	for _, l := range m.Layers {
		out.Layers = append(out.Layers, blobPath(l.Digest))
	}
	for _, n := range it.Names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return out, err
		}
		if ref.Tag != "" {
			ref.Digest = ""
			out.RepoTags = append(out.RepoTags, ref.Familiar())
		}
	}
	return out, nil
}

// addItem collects the blobs of an image or an index and returns its descriptor.
func addItem(ctx context.Context, c *registry.Client, it Item, blobs map[digest.Digest]ocispec.Descriptor) (ocispec.Descriptor, error) {
	if it.Index == nil {
		return addImage(ctx, c, it.Image, blobs)
	}
	desc, _, members, err := c.CompleteIndex(ctx, it.Index)
	if err != nil {
		return desc, err
	}
	for i, img := range it.Index.Images {
		m, err := addImage(ctx, c, img, blobs)
		if err != nil {
			return desc, err
		}
		if m.Digest != members[i].Digest {
			return desc, fmt.Errorf("manifest %s: %w: the index has %s", m.Digest, registry.ErrInvalid, members[i].Digest)
		}
	}
	blobs[desc.Digest] = desc
	return desc, nil
}

// addImage collects the blobs of an image and returns its manifest's descriptor.
func addImage(ctx context.Context, c *registry.Client, img *registry.Image, blobs map[digest.Digest]ocispec.Descriptor) (ocispec.Descriptor, error) {
	desc, raw, err := c.Complete(ctx, img)
	if err != nil {
		return desc, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return desc, fmt.Errorf("manifest %s: %w: %w", desc.Digest, registry.ErrInvalid, err)
	}
	for _, data := range [][]byte{raw, img.RawConfig} {
		if _, err := c.Store().Blobs().Put(ctx, data); err != nil {
			return desc, err
		}
	}
	for _, d := range append([]ocispec.Descriptor{desc, m.Config}, m.Layers...) {
		blobs[d.Digest] = d
	}
	p := img.Config.Platform
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: &p}, nil
}

func indexEntries(it Item, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	common := map[string]string{}
	maps.Copy(common, it.Annotations)
	img := it.Image
	if it.Index != nil {
		img = it.Index.Images[0]
	}
	if t := img.Config.Created; t != nil {
		common[ocispec.AnnotationCreated] = t.UTC().Format(time.RFC3339)
	}
	var out []ocispec.Descriptor
	for _, n := range it.Names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return nil, err
		}
		d := desc
		d.Annotations = maps.Clone(common)
		d.Annotations[nameAnnotation] = ref.String()
		if ref.Tag != "" {
			d.Annotations[ocispec.AnnotationRefName] = ref.Tag
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		desc.Annotations = common
		out = append(out, desc)
	}
	return out, nil
}

// copyBlob copies a blob and checks it on the way.
func copyBlob(ctx context.Context, s Sink, c *registry.Client, desc ocispec.Descriptor) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	r, err := c.Store().Blobs().Open(desc.Digest)
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	defer r.Close()
	v := desc.Digest.Verifier()
	path := "blobs/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded()
	seen := &progress.Writer{W: v, To: progress.Of(ctx), Item: progress.Item(desc.Digest), Total: desc.Size}
	if err := s.File(path, desc.Size, io.TeeReader(ctxReader{ctx, r}, seen)); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("blob %s in the store: %w", desc.Digest, registry.ErrBadDigest)
	}
	return nil
}

// ctxReader ends a long copy when its context does.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

// Read implements io.Reader.
func (r ctxReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, errors.Join(context.Cause(r.ctx))
	}
	return r.r.Read(p)
}
