package compression

import (
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// The compressed form of a layer depends on these and on nothing else: not on
// the number of cores, not on how the tar arrives.
const (
	gzipLevel = 5
	gzipBlock = 1 << 20
	// gzipBlocks bounds the memory of one compression.
	gzipBlocks = 4
)

// newGzip compresses with several cores, without name and time in the header.
func newGzip(w io.Writer) (*pgzip.Writer, error) {
	zw, err := pgzip.NewWriterLevel(w, gzipLevel)
	if err != nil {
		return nil, err
	}
	return zw, zw.SetConcurrency(gzipBlock, min(runtime.GOMAXPROCS(0), gzipBlocks)+1)
}

// zstdThreads is fixed, since the bytes may depend on it.
const zstdThreads = 2

// NewWriter returns a writer that compresses into w; its Close does not close w.
func (o Config) NewWriter(w io.Writer) (io.WriteCloser, error) {
	switch {
	case o.Type == "uncompressed":
		return nopCloser{w}, nil
	case o.Type == EStargz, o.Type == ZstdChunked:
		return newTOCWriter(w, o.Type, o.Level), nil
	case o.Type == "zstd":
		level := 3
		if o.Level != nil {
			level = *o.Level
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(zstdThreads))
	case o.Level == nil:
		return newGzip(w)
	}
	zw, err := pgzip.NewWriterLevel(w, *o.Level)
	if err != nil {
		return nil, err
	}
	return zw, zw.SetConcurrency(gzipBlock, gzipBlocks)
}

type nopCloser struct{ io.Writer }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }
