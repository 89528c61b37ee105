package layout

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

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/image"
)

// maxLayoutJSON bounds an index or a manifest of a layout.
const maxLayoutJSON = 8 << 20

// Layout is an OCI image layout that can be read: a directory, or a tar of one.
type Layout struct {
	name  string
	root  *os.Root            // of a directory
	file  *os.File            // of a tar
	files map[string][2]int64 // of a tar: where a file begins, and its size
	top   ocispec.Descriptor
}

var _ registry.Source = (*Layout)(nil)

// OpenLayout opens an image of a layout, a directory or a tar that is not compressed:
// that with the tag, or the digest, or, where ref is empty, the latest or only one.
// The caller closes it.
func OpenLayout(name, ref string) (*Layout, error) {
	l := &Layout{name: name}
	err := l.open()
	if err == nil {
		l.top, err = l.find(ref)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layout %s: %w", name, err), l.Close())
	}
	return l, nil
}

func (l *Layout) open() error {
	fi, err := os.Stat(l.name)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		l.root, err = os.OpenRoot(l.name)
		return err
	}
	if l.file, err = os.Open(l.name); err != nil {
		return err
	}
	l.files = map[string][2]int64{}
	tr := tar.NewReader(l.file)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w: no tar, or a compressed one", registry.ErrInvalid, err)
		}
		if n == maxEntries {
			return fmt.Errorf("%w: more than %d files", registry.ErrInvalid, maxEntries)
		}
		at, err := l.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			l.files[path.Clean(strings.TrimPrefix(h.Name, "/"))] = [2]int64{at, h.Size}
		}
	}
}

// Close implements io.Closer.
func (l *Layout) Close() error {
	var errs []error
	if l.root != nil {
		errs = append(errs, l.root.Close())
	}
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	return errors.Join(errs...)
}

// openFile opens a file of the layout.
func (l *Layout) openFile(name string) (io.ReadSeekCloser, error) {
	if l.root != nil {
		return l.root.Open(name)
	}
	at, ok := l.files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, registry.ErrNotFound)
	}
	return section{io.NewSectionReader(l.file, at[0], at[1])}, nil
}

// section is a part of a file that stays open.
type section struct{ *io.SectionReader }

// Close implements io.Closer.
func (section) Close() error { return nil }

func (l *Layout) read(name string) ([]byte, error) {
	f, err := l.openFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLayoutJSON+1))
	if err == nil && len(data) > maxLayoutJSON {
		err = fmt.Errorf("%s: %w: larger than %d bytes", name, registry.ErrInvalid, maxLayoutJSON)
	}
	return data, err
}

// find chooses an entry of index.json.
func (l *Layout) find(ref string) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	index, err := readIndex(l.read)
	if err != nil {
		return none, err
	}
	if d, err := digest.Parse(ref); err == nil {
		for _, m := range index.Manifests {
			if m.Digest == d {
				return m, nil
			}
		}
		return ocispec.Descriptor{Digest: d}, nil
	}
	want := ref
	if want == "" {
		want = "latest"
	}
	for _, m := range index.Manifests {
		if namedSo(m, want) {
			return m, nil
		}
	}
	switch {
	case ref != "":
		return none, fmt.Errorf("no image is tagged %s: %w", ref, registry.ErrNotFound)
	case len(index.Manifests) == 1:
		return index.Manifests[0], nil
	}
	return none, fmt.Errorf("%w: it holds %d images and none is tagged latest: name one with :TAG or @DIGEST", registry.ErrAmbiguous, len(index.Manifests))
}

// namedSo reports whether an entry has a tag, or that name.
func namedSo(m ocispec.Descriptor, want string) bool {
	for _, have := range []string{m.Annotations[ocispec.AnnotationRefName], m.Annotations[nameAnnotation]} {
		if have == want || have != "" && !strings.Contains(want, "/") && strings.HasSuffix(have, ":"+want) {
			return true
		}
	}
	return false
}

func readIndex(read func(string) ([]byte, error)) (ocispec.Index, error) {
	var index ocispec.Index
	raw, err := read(ocispec.ImageIndexFile)
	if err == nil {
		if err = json.Unmarshal(raw, &index); err != nil {
			err = fmt.Errorf("%s: %w: %w", ocispec.ImageIndexFile, registry.ErrInvalid, err)
		}
	}
	return index, err
}

// Manifest implements registry.Source.
func (l *Layout) Manifest(_ context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	if want.Digest == "" {
		want = l.top
	}
	if err := want.Digest.Validate(); err != nil {
		return nil, want, fmt.Errorf("layout %s: digest %q: %w", l.name, want.Digest, err)
	}
	raw, err := l.read(blobPath(want.Digest))
	if err == nil {
		if got := want.Digest.Algorithm().FromBytes(raw); got != want.Digest {
			err = fmt.Errorf("%w: the file holds %s", registry.ErrBadDigest, got)
		}
	}
	if err != nil {
		return nil, want, fmt.Errorf("layout %s: manifest %s: %w", l.name, want.Digest, err)
	}
	desc, err := image.Describe(raw, want.MediaType, want)
	return raw, desc, err
}

// Open implements registry.Source.
func (l *Layout) Open(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	f, err := l.openFile(blobPath(desc.Digest))
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", l.name, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// newLayoutIndex is an index.json with one more entry; one of the same name goes.
func newLayoutIndex(old ocispec.Index, desc ocispec.Descriptor, ref string) ([]byte, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Annotations: old.Annotations, Manifests: []ocispec.Descriptor{}}
	for _, m := range old.Manifests {
		if m.Annotations[ocispec.AnnotationRefName] != ref || ref == "" && m.Digest != desc.Digest {
			index.Manifests = append(index.Manifests, m)
		}
	}
	entry := ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform}
	if ref != "" {
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
	}
	index.Manifests = append(index.Manifests, entry)
	return json.Marshal(index)
}
