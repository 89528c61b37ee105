package layout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/progress"
)

// LayoutWriter is an OCI image layout that takes images: a directory, to which they
// are added, or a new tar.
type LayoutWriter struct {
	dir string // "" is a tar
	ref string

	mu   sync.Mutex // guards what follows; one file of a tar is written at a time
	sink Sink
	tw   *tar.Writer
	seen map[digest.Digest]bool
}

var _ registry.Destination = (*LayoutWriter)(nil)

// NewLayoutDir opens a directory, which is made if there is none.
func NewLayoutDir(dir, ref string) (*LayoutWriter, error) {
	l := &LayoutWriter{dir: dir, ref: ref, sink: dirSink(dir), seen: map[digest.Digest]bool{}}
	return l, l.begin()
}

// NewLayoutTar writes a tar; Close ends it.
func NewLayoutTar(w io.Writer, ref string) (*LayoutWriter, error) {
	tw := tar.NewWriter(w)
	l := &LayoutWriter{ref: ref, sink: tarSink{tw}, tw: tw, seen: map[digest.Digest]bool{}}
	return l, l.begin()
}

func (l *LayoutWriter) begin() error {
	for _, d := range []string{"blobs", "blobs/sha256"} {
		if err := l.sink.Dir(d); err != nil {
			return fmt.Errorf("write OCI layout: %w", err)
		}
	}
	return nil
}

// Close ends the layout.
func (l *LayoutWriter) Close() error {
	if l.tw == nil {
		return nil
	}
	return l.tw.Close()
}

// has reports whether a blob is here already.
func (l *LayoutWriter) has(desc ocispec.Descriptor) bool {
	if l.dir == "" {
		return l.seen[desc.Digest]
	}
	fi, err := os.Stat(filepath.Join(l.dir, blobPath(desc.Digest)))
	return err == nil && fi.Size() == desc.Size
}

// Blob implements registry.Destination.
func (l *LayoutWriter) Blob(ctx context.Context, desc ocispec.Descriptor, src registry.Source) error {
	if l.dir == "" {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	if l.has(desc) {
		return nil
	}
	r, err := src.Open(ctx, desc, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	v := &verifying{r: ctxReader{ctx, r}, v: desc.Digest.Verifier(), left: desc.Size, desc: desc}
	w := &progress.Writer{W: io.Discard, To: progress.Of(ctx), Item: progress.Item(desc.Digest), Total: desc.Size}
	if err := l.sink.File(blobPath(desc.Digest), desc.Size, io.TeeReader(v, w)); err != nil {
		return fmt.Errorf("copy blob: %w", err)
	}
	if l.dir == "" {
		l.seen[desc.Digest] = true
	}
	return nil
}

// verifying fails at the end of content that is not what it should be, so that a
// file of it is never put in place.
type verifying struct {
	r    io.Reader
	v    digest.Verifier
	left int64
	desc ocispec.Descriptor
}

// Read implements io.Reader.
func (r *verifying) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.v.Write(p[:n]) //nolint:errcheck // a hash
	if r.left -= int64(n); r.left < 0 || err == io.EOF && (r.left != 0 || !r.v.Verified()) {
		return n, fmt.Errorf("blob %s: %w", r.desc.Digest, registry.ErrBadDigest)
	}
	return n, err
}

// Manifest implements registry.Destination.
func (l *LayoutWriter) Manifest(_ context.Context, desc ocispec.Descriptor, raw []byte, root bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.has(desc) {
		if err := small(l.sink, blobPath(desc.Digest), raw); err != nil {
			return err
		}
		l.seen[desc.Digest] = true
	}
	if !root {
		return nil
	}
	var old ocispec.Index
	if l.dir != "" {
		var err error
		old, err = readIndex(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(l.dir, name)) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	index, err := newLayoutIndex(old, desc, l.ref)
	if err == nil {
		err = small(l.sink, ocispec.ImageIndexFile, index)
	}
	if err != nil {
		return err
	}
	mark, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return small(l.sink, ocispec.ImageLayoutFile, mark)
}
