package cli

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/planner"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/layout"
)

// maxLayoutJSON bounds an index or a manifest of a layout.
const maxLayoutJSON = 8 << 20

// resolveLayout takes an image of an OCI image layout directory into the store:
// oci-layout://DIR[:TAG][@DIGEST].
func (r *resolver) resolveLayout(ctx context.Context, ref string, platform ocispec.Platform) (*planner.BaseImage, error) {
	b := r.entry(baseKey(ref, platform))
	b.once.Do(func() { b.err = r.loadLayout(ctx, b, ref, platform) })
	return b.base, b.err
}

func (r *resolver) loadLayout(ctx context.Context, b *resolvedBase, ref string, platform ocispec.Platform) error {
	dir, tag, want, err := splitLayout(strings.TrimPrefix(ref, ociLayoutScheme))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open layout: %w", err)
	}
	defer root.Close()
	l := &layoutDir{root: root}
	desc, err := l.find(tag, want, platform)
	if err != nil {
		return fmt.Errorf("layout %s: %w", dir, err)
	}
	img, err := l.load(ctx, r.eng, desc)
	if err != nil {
		return fmt.Errorf("layout %s: %w", dir, err)
	}
	b.local(img, ref)
	b.base.Digest = desc.Digest.String()
	return nil
}

// splitLayout takes DIR[:TAG][@DIGEST] apart.
func splitLayout(s string) (dir, tag string, want digest.Digest, err error) {
	dir, sum, ok := strings.Cut(s, "@")
	if ok {
		if want, err = digest.Parse(sum); err != nil {
			return "", "", "", fmt.Errorf("%s: %w", sum, err)
		}
	}
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, '/') {
		dir, tag = dir[:i], dir[i+1:]
	}
	return dir, tag, want, nil
}

// layoutDir is an OCI image layout directory.
type layoutDir struct{ root *os.Root }

// find chooses a manifest: by digest, by tag, "latest", or the only one.
func (l *layoutDir) find(tag string, want digest.Digest, p ocispec.Platform) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := l.json(ocispec.ImageIndexFile, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	if want != "" {
		for _, m := range index.Manifests {
			if m.Digest == want {
				return l.platform(m, p, 0)
			}
		}
		return l.byDigest(want, p)
	}
	name := tag
	if name == "" {
		name = "latest"
	}
	for _, m := range index.Manifests {
		if n := m.Annotations[ocispec.AnnotationRefName]; n == name || strings.HasSuffix(n, ":"+name) {
			return l.platform(m, p, 0)
		}
	}
	if tag == "" && len(index.Manifests) == 1 {
		return l.platform(index.Manifests[0], p, 0)
	}
	if tag == "" {
		return ocispec.Descriptor{}, fmt.Errorf("it holds %d images and none is tagged latest: name one with :TAG or @DIGEST", len(index.Manifests))
	}
	return ocispec.Descriptor{}, fmt.Errorf("no image is tagged %s", tag)
}

// byDigest takes a manifest that index.json does not list.
func (l *layoutDir) byDigest(d digest.Digest, p ocispec.Platform) (ocispec.Descriptor, error) {
	var m struct {
		MediaType string               `json:"mediaType"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := l.json(layoutBlob(d), &m); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: d}
	if desc.MediaType == "" {
		desc.MediaType = ocispec.MediaTypeImageManifest
		if len(m.Manifests) > 0 {
			desc.MediaType = ocispec.MediaTypeImageIndex
		}
	}
	info, err := l.root.Stat(layoutBlob(d))
	if err != nil {
		return desc, err
	}
	desc.Size = info.Size()
	return l.platform(desc, p, 0)
}

// platform looks through indexes.
func (l *layoutDir) platform(desc ocispec.Descriptor, p ocispec.Platform, depth int) (ocispec.Descriptor, error) {
	if err := desc.Digest.Validate(); err != nil {
		return desc, err
	}
	if desc.MediaType != ocispec.MediaTypeImageIndex && desc.MediaType != "application/vnd.docker.distribution.manifest.list.v2+json" {
		return desc, nil
	}
	var index ocispec.Index
	if err := l.json(layoutBlob(desc.Digest), &index); err != nil {
		return desc, err
	}
	match := platforms.Only(p)
	for _, m := range index.Manifests {
		if depth < 4 && (m.Platform == nil || match.Match(*m.Platform)) {
			return l.platform(m, p, depth+1)
		}
	}
	return desc, fmt.Errorf("index %s has no image for %s", desc.Digest, platforms.FormatAll(p))
}

func layoutBlob(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded())
}

func (l *layoutDir) json(name string, v any) error {
	b, err := l.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (l *layoutDir) read(name string) ([]byte, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLayoutJSON+1))
	if err == nil && len(b) > maxLayoutJSON {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxLayoutJSON)
	}
	return b, err
}

// tar writes a layout that holds one image.
func (l *layoutDir) tar(w io.Writer, desc ocispec.Descriptor) error {
	var m ocispec.Manifest
	if err := l.json(layoutBlob(desc.Digest), &m); err != nil {
		return err
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}},
	})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err = tw.WriteHeader(&tar.Header{Name: ocispec.ImageIndexFile, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(index))})
	if err == nil {
		_, err = tw.Write(index)
	}
	seen := map[digest.Digest]bool{}
	for _, d := range append([]ocispec.Descriptor{desc, m.Config}, m.Layers...) {
		if err != nil {
			return err
		}
		if err = d.Digest.Validate(); err == nil && !seen[d.Digest] {
			err = l.tarBlob(tw, d.Digest)
		}
		seen[d.Digest] = true
	}
	return errors.Join(err, tw.Close())
}

func (l *layoutDir) tarBlob(tw *tar.Writer, d digest.Digest) error {
	f, err := l.root.Open(layoutBlob(d))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", layoutBlob(d))
	}
	if err := tw.WriteHeader(&tar.Header{Name: layoutBlob(d), Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

// load takes an image into the store, as `builder load` would. One that the store
// has is not read again.
func (l *layoutDir) load(ctx context.Context, eng *engine, desc ocispec.Descriptor) (*registry.Image, error) {
	var m ocispec.Manifest
	if err := l.json(layoutBlob(desc.Digest), &m); err != nil {
		return nil, err
	}
	img, err := eng.images.ResolveLocal(m.Config.Digest.String())
	if err != nil {
		if img, err = l.copy(ctx, eng, desc); err != nil {
			return nil, err
		}
	}
	return img, eng.completeStack(img)
}

func (l *layoutDir) copy(ctx context.Context, eng *engine, desc ocispec.Descriptor) (*registry.Image, error) {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(l.tar(pw, desc))
	}()
	imgs, err := layout.Load(ctx, pr, eng.client)
	pr.Close()
	<-done
	if err == nil && len(imgs) != 1 {
		err = fmt.Errorf("%d images where one was expected", len(imgs))
	}
	if err != nil {
		return nil, err
	}
	return imgs[0], nil
}
