package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"layered.build/builder/snapshot/archive/inflate"
)

// Compression is how a stream is compressed.
type Compression string

// The compressions that are told apart. XZ is recognised so that it can be
// refused by name.
const (
	None  Compression = "none"
	Gzip  Compression = "gzip"
	Bzip2 Compression = "bzip2"
	XZ    Compression = "xz"
	Zstd  Compression = "zstd"
)

// ErrUnsupported says that a stream is compressed in a way that this program
// does not read.
var ErrUnsupported = errors.New("unsupported compression")

// Detect tells the compression from the first bytes of a stream (6 are enough).
func Detect(header []byte) Compression {
	switch {
	case bytes.HasPrefix(header, []byte{0x1f, 0x8b, 0x08}):
		return Gzip
	case bytes.HasPrefix(header, []byte("BZh")):
		return Bzip2
	case bytes.HasPrefix(header, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return XZ
	case bytes.HasPrefix(header, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	case len(header) >= 4 && header[0]&0xf0 == 0x50 && bytes.Equal(header[1:4], []byte{0x2a, 0x4d, 0x18}):
		return Zstd // a skippable frame first (zstd:chunked)
	}
	return None
}

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 128 << 20

// Decompress returns the plain bytes of a stream whose compression is found from
// its content. The caller closes it; that does not close r.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	header, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, None, err
	}
	c := Detect(header)
	switch c {
	case Gzip:
		zr, err := inflate.NewReader(br)
		return zr, c, err
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(br)), c, nil
	case Zstd:
		zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, c, err
		}
		return zr.IOReadCloser(), c, nil
	case XZ:
		return nil, c, fmt.Errorf("%w: xz", ErrUnsupported)
	}
	return io.NopCloser(br), None, nil
}
