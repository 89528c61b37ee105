package compression

import (
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// Blob is the compressed form of a layer on its way into the store.
type Blob struct {
	how Config
	out *snapshot.BlobWriter
	zw  io.WriteCloser // receives the tar
}

// NewBlob begins a blob whose compressed bytes go to w, which passes them on to out. It
// is ended by Finish; out is closed with it, or when NewBlob fails.
func NewBlob(out *snapshot.BlobWriter, how Config, w io.Writer) (*Blob, error) {
	zw, err := how.NewWriter(w)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return &Blob{how: how, out: out, zw: zw}, nil
}

// Write takes a part of the tar.
func (b *Blob) Write(p []byte) (int, error) { return b.zw.Write(p) }

// ReadFrom takes the tar, as far as r gives it.
func (b *Blob) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(b.zw, r, make([]byte, 256<<10))
}

// Finish ends a blob, which is in the store then, and describes it; err, unless it is
// nil, says why it is to be none.
func (b *Blob) Finish(err error) (ocispec.Descriptor, error) {
	toc, _ := b.zw.(*tocWriter)
	if toc != nil && err != nil {
		toc.pw.CloseWithError(err) // what is there so far is no whole tar
	}
	if err = errors.Join(err, b.zw.Close()); err != nil {
		return ocispec.Descriptor{}, errors.Join(err, b.out.Close())
	}
	d, err := b.out.Commit("")
	desc := ocispec.Descriptor{MediaType: b.how.MediaType(), Digest: d, Size: b.out.Size()}
	if toc != nil {
		desc.Annotations = toc.annotations
	}
	return desc, err
}
