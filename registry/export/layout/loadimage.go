package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/snapshot"
)

// oci loads the images of index.json. Newer dockers write manifest.json beside
// it, which may have more names.
func (l *loader) oci(ctx context.Context, more []dockerImage) ([]*registry.Image, error) {
	var index ocispec.Index
	if err := l.json(ocispec.ImageIndexFile, &index); err != nil {
		return nil, err
	}
	byConfig := map[digest.Digest][]string{}
	for _, m := range more {
		if d, ok := l.find(m.Config); ok {
			byConfig[d] = append(byConfig[d], m.RepoTags...)
		}
	}
	var out []*registry.Image
	byManifest := map[digest.Digest]*registry.Image{}
	for _, entry := range index.Manifests {
		desc, err := l.choose(ctx, entry, 0)
		if err != nil {
			return nil, err
		}
		img := byManifest[desc.Digest]
		if img == nil {
			if img, err = l.ociImage(ctx, desc); err != nil {
				return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
			}
			byManifest[desc.Digest] = img
			out = append(out, img)
		}
		if _, err := l.put(ctx, img, append(entryNames(entry), byConfig[img.ID]...)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// entryNames returns the name of an index entry. A layout of skopeo or buildah
// has the whole name, or only a tag, as reference name: a tag alone names nothing.
func entryNames(entry ocispec.Descriptor) []string {
	if n := entry.Annotations[nameAnnotation]; n != "" {
		return []string{n}
	}
	n := entry.Annotations[ocispec.AnnotationRefName]
	for _, c := range n {
		if c == ':' || c == '/' || c == '@' {
			return []string{n}
		}
	}
	return nil
}

// choose finds the manifest for this machine behind an index entry.
func (l *loader) choose(ctx context.Context, desc ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	if !mediatype.IsIndex(desc.MediaType) {
		return desc, nil
	}
	if depth == maxNested {
		return desc, fmt.Errorf("%w: indexes are nested too deeply", registry.ErrInvalid)
	}
	var index ocispec.Index
	if err := l.json(blobPath(desc.Digest), &index); err != nil {
		return desc, err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool {
		_, ok := l.find(blobPath(m.Digest))
		return !ok // left out when the archive was written
	})
	raw, err := json.Marshal(index)
	if err != nil {
		return desc, err
	}
	best, err := image.Choose(raw, platforms.Default(), registry.Look(ctx, spooled{l}))
	if err != nil {
		return desc, fmt.Errorf("index %s: %w", desc.Digest, err)
	}
	return l.choose(ctx, best, depth+1)
}

// spooled has the manifests and configurations of an archive.
type spooled struct{ l *loader }

var _ registry.Source = spooled{}

// Manifest implements registry.Source.
func (s spooled) Manifest(_ context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	d, ok := s.l.find(blobPath(want.Digest))
	if !ok {
		return nil, want, fmt.Errorf("manifest %s: %w in the archive", want.Digest, registry.ErrNotFound)
	}
	raw, err := s.l.c.Store().Blobs().ReadAll(d)
	if err != nil {
		return nil, want, err
	}
	desc, err := image.Describe(raw, want.MediaType, want)
	return raw, desc, err
}

// Open implements registry.Source.
func (s spooled) Open(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	d, ok := s.l.find(blobPath(desc.Digest))
	if !ok {
		return nil, fmt.Errorf("blob %s: %w in the archive", desc.Digest, registry.ErrNotFound)
	}
	f, err := s.l.c.Store().Blobs().Open(d)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func blobPath(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

func (l *loader) ociImage(ctx context.Context, desc ocispec.Descriptor) (*registry.Image, error) {
	var m ocispec.Manifest
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if err := l.json(blobPath(desc.Digest), &m); err != nil {
		return nil, err
	}
	raw, err := l.c.Store().Blobs().ReadAll(desc.Digest)
	if err != nil {
		return nil, err
	}
	if err := m.Config.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	img, err := l.config(blobPath(m.Config.Digest))
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(img.Config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: %d layers, but the configuration has %d", registry.ErrInvalid, len(m.Layers), len(img.Config.RootFS.DiffIDs))
	}
	img.Manifest = &ocispec.Descriptor{MediaType: m.MediaType, Digest: desc.Digest, Size: int64(len(raw))}
	if img.Manifest.MediaType == "" {
		img.Manifest.MediaType = desc.MediaType
	}
	img.RawManifest = raw
	l.keep[desc.Digest] = true
	for i, layer := range m.Layers {
		if err := l.lazyLayer(img, i, layer); err != nil {
			return nil, fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
	}
	return img, l.c.Store().Materialize(ctx, img.Stack)
}

// lazyLayer registers a layer whose blob is in the archive. The blob is kept:
// nothing else could give the same bytes again.
func (l *loader) lazyLayer(img *registry.Image, i int, desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if _, ok := l.find(blobPath(desc.Digest)); !ok {
		return fmt.Errorf("%w in the archive", registry.ErrNotFound)
	}
	l.keep[desc.Digest] = true
	blobs := l.c.Store().Blobs()
	layer, err := l.c.Store().AddLazy(img.Stack, snapshot.LazyLayer{
		DiffID: snapshot.DiffID(img.Config.RootFS.DiffIDs[i]),
		Blob:   desc,
		Open:   func(context.Context) (io.ReadCloser, error) { return blobs.Open(desc.Digest) },
	})
	if err != nil {
		return err
	}
	img.Stack = append(img.Stack, layer)
	return nil
}

// config reads an image configuration of the archive.
func (l *loader) config(name string) (*registry.Image, error) {
	d, ok := l.find(name)
	if !ok {
		return nil, fmt.Errorf("configuration %s: %w in the archive", name, registry.ErrNotFound)
	}
	raw, err := l.c.Store().Blobs().ReadAll(d)
	if err != nil {
		return nil, err
	}
	img := &registry.Image{ID: d, RawConfig: raw}
	if err := json.Unmarshal(raw, &img.Config); err != nil {
		return nil, fmt.Errorf("configuration %s: %w: %w", name, registry.ErrInvalid, err)
	}
	l.keep[d] = true
	return img, nil
}

// docker loads the images of manifest.json.
func (l *loader) docker(ctx context.Context, images []dockerImage) ([]*registry.Image, error) {
	var out []*registry.Image
	for _, m := range images {
		img, err := l.config(m.Config)
		if err != nil {
			return nil, err
		}
		if len(m.Layers) != len(img.Config.RootFS.DiffIDs) {
			return nil, fmt.Errorf("image %s: %w: %d layers, but the configuration has %d", m.Config, registry.ErrInvalid, len(m.Layers), len(img.Config.RootFS.DiffIDs))
		}
		for i, name := range m.Layers {
			if err := l.dockerLayer(ctx, img, i, name); err != nil {
				return nil, fmt.Errorf("layer %s: %w", name, err)
			}
		}
		if img, err = l.put(ctx, img, m.RepoTags); err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

func (l *loader) dockerLayer(ctx context.Context, img *registry.Image, i int, name string) error {
	diff := snapshot.DiffID(img.Config.RootFS.DiffIDs[i])
	store := l.c.Store()
	next := append(img.Stack[:i:i], snapshot.Layer{DiffID: diff})
	if known, ok := store.Lookup(next.ChainID()); ok {
		img.Stack = append(img.Stack, known)
		return nil
	}
	d, ok := l.find(name)
	if !ok {
		return fmt.Errorf("%w in the archive", registry.ErrNotFound)
	}
	r, err := store.Blobs().Open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	layer, err := store.Import(ctx, img.Stack, diff, r)
	if err != nil {
		return err
	}
	img.Stack = append(img.Stack, layer)
	return nil
}
