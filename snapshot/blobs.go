package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/lease"
)

// ErrDigest says that bytes are not those that a digest or a length promised.
var ErrDigest = errors.New("content does not match its digest")

// maxSmallBlob bounds what ReadAll loads.
const maxSmallBlob = 32 << 20

// Blobs are content-addressed files: image configs, manifests, compressed layers.
// The folder is the blobs folder of an OCI image layout.
type Blobs struct{ s *Store }

func checkBlobDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("blob %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("blob %s: only sha256 digests are supported", d)
	}
	return nil
}

// Has reports whether a blob is here.
func (b *Blobs) Has(d digest.Digest) bool {
	_, err := b.Size(d)
	return err == nil
}

// Size returns a blob's length in bytes.
func (b *Blobs) Size(d digest.Digest) (int64, error) {
	if err := checkBlobDigest(d); err != nil {
		return 0, err
	}
	b.s.pinBlob(d)
	st, err := os.Stat(b.Path(d))
	if err != nil {
		return 0, fmt.Errorf("blob %s: %w", d, err)
	}
	return st.Size(), nil
}

// Path returns where a blob is, or would be. D is a valid sha256 digest.
func (b *Blobs) Path(d digest.Digest) string { return b.s.path(BlobsFolder, d.Encoded()) }

// Open opens a blob; the error matches fs.ErrNotExist if it is not here.
func (b *Blobs) Open(d digest.Digest) (io.ReadSeekCloser, error) {
	if err := checkBlobDigest(d); err != nil {
		return nil, err
	}
	b.s.pinBlob(d)
	f, err := os.Open(b.Path(d))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, nil
}

// ReadAll returns a small blob (at most 32 MiB), verified.
func (b *Blobs) ReadAll(d digest.Digest) ([]byte, error) {
	n, err := b.Size(d)
	if err != nil {
		return nil, err
	}
	if n > maxSmallBlob {
		return nil, fmt.Errorf("blob %s: %d bytes are too many to load", d, n)
	}
	data, err := os.ReadFile(b.Path(d))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	if got := digest.FromBytes(data); got != d {
		return nil, fmt.Errorf("blob %s: %w: the file holds %s", d, ErrDigest, got)
	}
	return data, nil
}

// Put stores bytes.
func (b *Blobs) Put(ctx context.Context, data []byte) (digest.Digest, error) {
	d := digest.FromBytes(data)
	if b.Has(d) {
		return d, nil
	}
	w, err := b.Writer(ctx)
	if err != nil {
		return "", err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	return w.Commit(d)
}

// Writer starts a new blob. The caller calls Commit or Close.
func (b *Blobs) Writer(ctx context.Context) (*BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	f, err := os.OpenFile(b.s.lease.TempName(tmpDir), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("write blob: %w", err)
	}
	return &BlobWriter{b: b, f: f, h: sha256.New(), grown: lease.NewGrowth(ctx, b.s.room)}, nil
}

// Remove deletes a blob; it is no error if there is none.
func (b *Blobs) Remove(d digest.Digest) error {
	if err := checkBlobDigest(d); err != nil {
		return err
	}
	if err := os.Remove(b.Path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// All lists the digests of all blobs.
func (b *Blobs) All() ([]digest.Digest, error) {
	names, err := os.ReadDir(b.s.path(BlobsFolder))
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	var ds []digest.Digest
	for _, n := range names {
		if d := digest.NewDigestFromEncoded(digest.SHA256, n.Name()); d.Validate() == nil {
			ds = append(ds, d)
		}
	}
	return ds, nil
}

// BlobWriter receives the bytes of one blob and hashes them.
type BlobWriter struct {
	b *Blobs
	f *os.File // nil when committed or closed
	h hash.Hash
	n int64

	grown *lease.Growth
}

// Write implements io.Writer.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("write blob: %w", fs.ErrClosed)
	}
	if err := w.grown.Add(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	w.h.Write(p[:n])
	w.n += int64(n)
	return n, err
}

// Follow returns a second reader of the blob's file, from its beginning: it ends where
// the writing is. It stays valid after Commit; the caller closes it.
func (w *BlobWriter) Follow() (*os.File, error) {
	if w.f == nil {
		return nil, fmt.Errorf("follow blob: %w", fs.ErrClosed)
	}
	f, err := os.Open(w.f.Name())
	if err != nil {
		return nil, fmt.Errorf("follow blob: %w", err)
	}
	return f, nil
}

// Digest returns the digest of what has been written so far.
func (w *BlobWriter) Digest() digest.Digest { return digest.NewDigest(digest.SHA256, w.h) }

// Size returns how many bytes have been written so far.
func (w *BlobWriter) Size() int64 { return w.n }

// Commit makes the blob visible. Expected, unless empty, must be its digest.
func (w *BlobWriter) Commit(expected digest.Digest) (digest.Digest, error) {
	if w.f == nil {
		return "", fmt.Errorf("commit blob: %w", fs.ErrClosed)
	}
	d := w.Digest()
	if expected != "" && d != expected {
		return "", errors.Join(fmt.Errorf("commit blob: %w: expected %s, got %s (%d bytes)", ErrDigest, expected, d, w.n), w.Close())
	}
	tmp := w.f.Name()
	err := w.f.Close()
	w.f = nil
	w.b.s.pinBlob(d)
	w.b.s.lease.Made(w.n)
	if err == nil {
		err = os.Rename(tmp, w.b.Path(d))
	}
	w.grown.Done(err == nil)
	if err != nil {
		os.Remove(tmp)
		return "", fmt.Errorf("commit blob %s: %w", d, err)
	}
	return d, nil
}

// Close gives up an uncommitted blob. It is idempotent.
func (w *BlobWriter) Close() error {
	if w.f == nil {
		return nil
	}
	tmp := w.f.Name()
	err := errors.Join(w.f.Close(), os.Remove(tmp))
	w.f = nil
	w.grown.Done(false)
	return err
}
