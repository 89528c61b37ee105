package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/unpack"
)

// lazyLayer is what AddLazy registered.
type lazyLayer struct {
	LazyLayer
	layer  Layer
	parent Stack
}

// FetchError says which layer could not be fetched, or was not what it was said to be.
type FetchError struct {
	What   string // what was done, for people
	DiffID DiffID
	Blob   digest.Digest
	Err    error
}

// Error implements error.
func (e *FetchError) Error() string { return fmt.Sprintf("%s %s: %v", e.What, e.Blob, e.Err) }

// Unwrap returns the cause.
func (e *FetchError) Unwrap() error { return e.Err }

// AddLazy registers a layer on top of parent that is fetched only when something
// needs its data. The Layer's ID is derived from the chain, so that every process
// gives it the same name. Size is 0 until the data is here. Its Content is the one of
// the layer that is on disk, else the one that is promised; the error matches ErrDigest if
// the promise is known to be wrong. The latest call for a layer counts.
func (s *Store) AddLazy(parent Stack, l LazyLayer) (Layer, error) {
	if err := digest.Digest(l.DiffID).Validate(); err != nil {
		return Layer{}, fmt.Errorf("add layer: diff id %q: %w", l.DiffID, err)
	}
	if err := checkBlobDigest(l.Blob.Digest); err != nil {
		return Layer{}, fmt.Errorf("add layer: %w", err)
	}
	if l.Content == foreignContent(l.DiffID) {
		l.Content = ""
	}
	if l.Content != "" && l.Content.Validate() != nil {
		return Layer{}, fmt.Errorf("add layer: bad content digest %q", l.Content)
	}
	layer, err := s.layerOf(parent, l)
	if err != nil {
		return Layer{}, fmt.Errorf("add layer: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lazy[layer.ID] = lazyLayer{LazyLayer: l, layer: layer, parent: append(Stack(nil), parent...)}
	return layer, nil
}

// layerOf is what is known of a layer that is added.
func (s *Store) layerOf(parent Stack, l LazyLayer) (Layer, error) {
	layer := Layer{
		ID: idOf(extend(parent, l.DiffID)), DiffID: l.DiffID, Content: foreignContent(l.DiffID),
		Empty: l.DiffID == emptyTar,
	}
	if l.Content != "" {
		layer.Content = l.Content
	}
	rec, err := s.loadLayer(layer.ID)
	if err != nil {
		return layer, nil // it will be fetched
	}
	if l.Content == "" {
		return rec.Layer, nil
	}
	return s.promised(rec, l.Content)
}

// Lazy returns what AddLazy registered for a layer in this process.
func (s *Store) Lazy(id LayerID) (LazyLayer, bool) {
	l, ok := s.lazyLayer(id)
	return l.LazyLayer, ok
}

func (s *Store) lazyLayer(id LayerID) (lazyLayer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lazy[id]
	return l, ok
}

// FetchBlob makes sure that a compressed form of a layer is among the Blobs,
// without unpacking it, whatever other forms of the layer are known.
func (s *Store) FetchBlob(ctx context.Context, l LazyLayer) error {
	if s.blobs.Has(l.Blob.Digest) {
		return nil
	}
	lock, err := s.lease.Lock(ctx, "blob-"+l.Blob.Digest.Encoded())
	if err != nil {
		return err
	}
	defer lock.Remove()
	b, err := s.openBlob(ctx, l)
	if err != nil {
		return &FetchError{What: "fetch layer", DiffID: l.DiffID, Blob: l.Blob.Digest, Err: ended(ctx, err)}
	}
	defer b.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{b}, make([]byte, 256<<10))
	if err == nil {
		err = b.commit()
	}
	if err != nil {
		return &FetchError{What: "fetch layer", DiffID: l.DiffID, Blob: l.Blob.Digest, Err: ended(ctx, err)}
	}
	return nil
}

// blobReader reads a layer's compressed form, from the blobs or from where it
// comes, and keeps it.
type blobReader struct {
	io.Reader
	src  io.Closer
	w    *BlobWriter
	want ocispec.Descriptor
	kept bool // the bytes come from the blobs
}

func (s *Store) openBlob(ctx context.Context, l LazyLayer) (*blobReader, error) {
	w, err := s.blobs.Writer(ctx)
	if err != nil {
		return nil, err
	}
	if f, err := os.Open(s.blobs.Path(l.Blob.Digest)); err == nil {
		if err := w.Close(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &blobReader{Reader: f, src: f, want: l.Blob, kept: true}, nil
	}
	if l.Open == nil {
		return nil, errors.Join(fmt.Errorf("no source is known: %w", os.ErrNotExist), w.Close())
	}
	if err := w.grown.Let(l.Blob.Size); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	r, err := l.Open(ctx)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &blobReader{Reader: io.TeeReader(r, w), src: r, w: w, want: l.Blob}, nil
}

// commit verifies what has been read to its end.
func (b *blobReader) commit() error {
	if b.kept {
		return nil
	}
	if b.want.Size > 0 && b.w.Size() != b.want.Size {
		return fmt.Errorf("%w: got %d bytes instead of %d", ErrDigest, b.w.Size(), b.want.Size)
	}
	_, err := b.w.Commit(b.want.Digest)
	return err
}

// Close implements io.Closer. What was not committed is gone.
func (b *blobReader) Close() error {
	err := b.src.Close()
	if b.w != nil {
		err = errors.Join(err, b.w.Close())
	}
	return err
}

// unpackedRatio is how much larger than its compressed form a layer is expected to be.
const unpackedRatio = 3

// fetchLayer fetches a layer and unpacks it in one pass. The caller holds the
// layer's lock.
func (s *Store) fetchLayer(ctx context.Context, l lazyLayer, lower func(context.Context) (Tree, error)) error {
	readCtx, stop := context.WithCancel(ctx)
	defer stop()
	b, err := s.openBlob(readCtx, l.LazyLayer)
	if err != nil {
		return ended(ctx, err)
	}
	defer b.Close()
	_, err = s.applyLayer(ctx, b, applySpec{parent: l.parent, diffID: l.DiffID, content: l.Content, blob: &l.Blob, size: l.layer.Size, lower: lower, stop: stop, verified: b.commit})
	return ended(ctx, err)
}

// ended is the error of what failed, or why it was ended: sources may not tell.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Import applies a tar on top of parent and makes it a layer now. The stream may
// be compressed. DiffID, unless empty, is what the uncompressed tar must have; if
// the store has that layer already, the stream is not read.
func (s *Store) Import(ctx context.Context, parent Stack, diffID DiffID, r io.Reader) (Layer, error) {
	if diffID != "" {
		if l, ok := s.Lookup(extend(parent, diffID)); ok {
			return l, nil
		}
	}
	l, err := s.applyLayer(ctx, r, applySpec{parent: parent, diffID: diffID, lower: func(ctx context.Context) (Tree, error) {
		if err := s.ensure(ctx, parent, true); err != nil {
			return nil, err
		}
		return s.Tree(ctx, parent)
	}})
	if err != nil {
		return Layer{}, fmt.Errorf("import layer: %w", err)
	}
	return l, nil
}

// applySpec says what a tar stream is applied as.
type applySpec struct {
	parent Stack
	diffID DiffID // "": unknown
	// content, unless "", is what was promised; the tar was made by this program.
	content digest.Digest
	blob    *ocispec.Descriptor
	size    int64 // of the tar, 0: unknown
	// lower gives the merged view of the layers below.
	lower func(context.Context) (Tree, error)
	// stop, if set, ends a read of the stream that blocks.
	stop func()
	// verified, if set, checks the compressed stream after its end.
	verified func() error
}

// applyLayer makes a layer of a tar stream: reading, decompressing and hashing,
// and writing files overlap.
func (s *Store) applyLayer(ctx context.Context, r io.Reader, spec applySpec) (_ Layer, err error) {
	tmp, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return Layer{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.RemoveAll(tmp))
		}
	}()
	grown := lease.NewGrowth(ctx, s.room)
	defer func() { grown.Done(err == nil) }()
	if spec.blob != nil {
		guess := spec.size
		if guess == 0 {
			guess = unpackedRatio * spec.blob.Size
		}
		if err := grown.Guess(guess); err != nil {
			return Layer{}, err
		}
	}
	out, err := unpack.Tar(ctx, r, unpack.Target{
		Maker: s.maker, Own: spec.content != "", Based: len(spec.parent) > 0, Lower: spec.lower, Grow: grown.Add, Stop: spec.stop,
		Dir: filepath.Join(tmp, dirForm), Dup: filepath.Join(tmp, dupForm),
		Manifest: filepath.Join(tmp, manifestFile), Split: filepath.Join(tmp, splitFile),
	})
	if err != nil {
		return Layer{}, err
	}
	got := DiffID(out.Digest)
	if spec.diffID != "" && got != spec.diffID {
		return Layer{}, fmt.Errorf("%w: the uncompressed layer is %s, the image says %s", ErrDigest, got, spec.diffID)
	}
	content := foreignContent(got)
	if spec.content != "" {
		switch content = out.Content; {
		case content == spec.content:
		case out.LeavesOut: // as older versions digested it: it cannot be told
			content = foreignContent(got)
		default:
			return Layer{}, fmt.Errorf("%w: the layer's content is %s, not %s as was promised", ErrDigest, content, spec.content)
		}
	}
	if spec.verified != nil {
		if err := spec.verified(); err != nil {
			return Layer{}, err
		}
	}
	l := Layer{
		ID: idOf(extend(spec.parent, got)), DiffID: got, Content: content, Size: out.Size,
		Created: time.Now().UTC().Truncate(time.Second), Empty: out.Empty,
	}
	if spec.blob != nil {
		if err := writeJSON(filepath.Join(tmp, blobFile), spec.blob); err != nil {
			return Layer{}, err
		}
	}
	return s.publish(tmp, &layerRecord{Layer: l, Foreign: true, Root: out.Root, Whiteouts: out.Whiteouts, Movable: out.Movable})
}
