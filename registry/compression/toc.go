package compression

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/archive/inflate"
)

// The compressions whose blobs have a table of contents at their end, so that
// single files can be fetched.
const (
	EStargz     = "estargz"
	ZstdChunked = "zstd:chunked"
)

// AnnotationUncompressed is containerd's name for the digest of a blob's plain
// content. It is not written into manifests.
const AnnotationUncompressed = "containerd.io/uncompressed"

// tocAnnotations are those of a layer's descriptor that a puller needs to find the
// table of contents; they are written into OCI manifests.
var tocAnnotations = [...]string{
	estargz.TOCJSONDigestAnnotation, estargz.StoreUncompressedSizeAnnotation,
	zstdchunked.ManifestChecksumAnnotation, zstdchunked.ManifestPositionAnnotation,
}

// TOC returns the annotations that lead to a table of contents, nil if there
// are none.
func TOC(annotations map[string]string) map[string]string {
	var out map[string]string
	for _, k := range tocAnnotations {
		if v := annotations[k]; v != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

// tocWriter compresses a tar so that every file begins a frame of its own, and
// appends the table of contents when it is closed.
type tocWriter struct {
	pw   *io.PipeWriter
	done chan struct{}
	// What follows is valid after done.
	err         error
	annotations map[string]string
}

// newTOCWriter compresses into w, which is not closed.
func newTOCWriter(w io.Writer, kind string, level *int) *tocWriter {
	pr, pw := io.Pipe()
	t := &tocWriter{pw: pw, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = t.run(pr, w, kind, level)
		pr.CloseWithError(t.err) // nil: whoever writes more gets io.ErrClosedPipe
	}()
	return t
}

func (t *tocWriter) run(r io.Reader, w io.Writer, kind string, level *int) error {
	if kind == ZstdChunked {
		return t.chunked(r, w, level)
	}
	return t.estargz(r, w, level)
}

// estargz writes the tar as it is and behind its end marker, where nobody who
// unpacks it looks, the table of contents: the plain content is another one.
func (t *tocWriter) estargz(r io.Reader, w io.Writer, level *int) error {
	compression := gzip.DefaultCompression
	if level != nil {
		compression = *level
	}
	pr, pw := io.Pipe()
	plain := &plainSum{done: make(chan struct{})}
	go plain.run(pr)
	zw := estargz.NewWriterLevel(io.MultiWriter(w, pw), compression)
	err := zw.AppendTarLossLess(r)
	var toc digest.Digest
	if err == nil {
		toc, err = zw.Close()
	}
	pw.CloseWithError(err)
	<-plain.done
	if err == nil {
		err = plain.err
	}
	if err != nil {
		return fmt.Errorf("write estargz: %w", err)
	}
	t.annotations = map[string]string{
		estargz.TOCJSONDigestAnnotation:         toc.String(),
		estargz.StoreUncompressedSizeAnnotation: fmt.Sprint(plain.size),
		AnnotationUncompressed:                  plain.digest.String(),
	}
	return nil
}

// plainSum digests what a gzip stream holds.
type plainSum struct {
	done chan struct{}
	// What follows is valid after done.
	digest digest.Digest
	size   int64
	err    error
}

func (p *plainSum) run(r *io.PipeReader) {
	defer close(p.done)
	h := digest.Canonical.Digester()
	zr, err := inflate.NewReader(r)
	if err == nil {
		p.size, err = io.Copy(h.Hash(), zr)
	}
	p.digest, p.err = h.Digest(), err
	r.CloseWithError(err)
}

// chunked writes the table of contents into frames that decompressors skip.
func (t *tocWriter) chunked(r io.Reader, w io.Writer, level *int) error {
	compression := 3
	if level != nil {
		compression = *level
	}
	annotations := map[string]string{}
	zw := estargz.NewWriterWithCompressor(w, &zstdchunked.Compressor{
		CompressionLevel: zstd.EncoderLevelFromZstd(compression), Metadata: annotations,
	})
	err := zw.AppendTarLossLess(r)
	var toc digest.Digest
	if err == nil {
		toc, err = zw.Close()
	}
	if err != nil {
		return fmt.Errorf("write zstd:chunked: %w", err)
	}
	annotations[estargz.TOCJSONDigestAnnotation] = toc.String()
	t.annotations = annotations
	return nil
}

// Write implements io.Writer.
func (t *tocWriter) Write(p []byte) (int, error) { return t.pw.Write(p) }

// Close writes the table of contents. It is idempotent.
func (t *tocWriter) Close() error {
	t.pw.Close() //nolint:errcheck // never fails
	<-t.done
	return t.err
}
