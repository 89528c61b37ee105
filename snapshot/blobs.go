package snapshot

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

// Blobs are content-addressed files: image configs, manifests, compressed layers.
// The folder is the blobs folder of an OCI image layout.
type Blobs struct{}

// Has reports whether a blob is here.
func (b *Blobs) Has(d digest.Digest) bool { return false }

// Size returns a blob's length in bytes.
func (b *Blobs) Size(d digest.Digest) (int64, error) { return 0, errTODO }

// Path returns where a blob is, or would be.
func (b *Blobs) Path(d digest.Digest) string { return "" }

// Open opens a blob; the error matches fs.ErrNotExist if it is not here.
func (b *Blobs) Open(d digest.Digest) (io.ReadSeekCloser, error) { return nil, errTODO }

// ReadAll returns a small blob (at most 32 MiB), verified.
func (b *Blobs) ReadAll(d digest.Digest) ([]byte, error) { return nil, errTODO }

// Put stores bytes.
func (b *Blobs) Put(ctx context.Context, data []byte) (digest.Digest, error) { return "", errTODO }

// Writer starts a new blob. The caller calls Commit or Close.
func (b *Blobs) Writer(ctx context.Context) (*BlobWriter, error) { return nil, errTODO }

// Remove deletes a blob; it is no error if there is none.
func (b *Blobs) Remove(d digest.Digest) error { return errTODO }

// All lists the digests of all blobs.
func (b *Blobs) All() ([]digest.Digest, error) { return nil, errTODO }

// BlobWriter receives the bytes of one blob and hashes them.
type BlobWriter struct{}

// Write implements io.Writer.
func (w *BlobWriter) Write(p []byte) (int, error) { return 0, errTODO }

// Digest returns the digest of what has been written so far.
func (w *BlobWriter) Digest() digest.Digest { return "" }

// Size returns how many bytes have been written so far.
func (w *BlobWriter) Size() int64 { return 0 }

// Commit makes the blob visible. Expected, unless empty, must be its digest.
func (w *BlobWriter) Commit(expected digest.Digest) (digest.Digest, error) { return "", errTODO }

// Close gives up an uncommitted blob. It is idempotent.
func (w *BlobWriter) Close() error { return errTODO }
