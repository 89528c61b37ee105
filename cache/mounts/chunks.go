package mounts

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"layered.build/builder/snapshot/object"
)

// chunks reads the stream from packs. It is used by one goroutine.
type chunks struct {
	m      *Manifest
	f      *fetcher
	zstd   *zstd.Decoder
	next   int    // of m.Stream
	skip   int64  // of that
	left   []byte // of the chunk before it
	packed []byte // room for a chunk as it is stored
	plain  []byte // room for one as it is
	buffer []byte // room for a small file
}

func newChunks(m *Manifest, f *fetcher) (*chunks, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk))
	if err != nil {
		return nil, err
	}
	return &chunks{
		m: m, f: f, zstd: z,
		packed: make([]byte, maxChunk), plain: make([]byte, 0, maxChunk), buffer: make([]byte, object.SmallFile),
	}, nil
}

func (c *chunks) close() { c.zstd.Close() }

// begin goes to a place in the stream.
func (c *chunks) begin(chunk int, skip int64) { c.next, c.skip, c.left = chunk, skip, nil }

// fill reads the next chunk, if nothing is left of the one before.
func (c *chunks) fill(ctx context.Context) error {
	if len(c.left) > 0 {
		return nil
	}
	if c.next >= len(c.m.Stream) {
		return io.ErrUnexpectedEOF
	}
	what := &c.m.Chunks[c.m.Stream[c.next]]
	data, err := c.read(ctx, what)
	if err != nil {
		return err
	}
	if sha256.Sum256(data) != what.Digest {
		return c.damaged(what)
	}
	c.left, c.skip = data[c.skip:], 0
	c.next++
	return nil
}

// read reads a chunk, which is valid until the next call.
func (c *chunks) read(ctx context.Context, what *Chunk) ([]byte, error) {
	f, err := c.f.get(ctx, what.Pack)
	if err != nil {
		return nil, err
	}
	packed := c.packed[:what.Stored]
	if _, err := f.ReadAt(packed, what.Offset); err != nil {
		return nil, err
	}
	if what.Stored == what.Size {
		return packed, nil
	}
	plain, err := c.zstd.DecodeAll(packed, c.plain[:0])
	if err != nil || len(plain) != what.Size {
		return nil, c.damaged(what)
	}
	return plain, nil
}

func (c *chunks) damaged(what *Chunk) error {
	return &PackError{c.m.Packs[what.Pack].Digest, fmt.Errorf("a chunk is not what it should be: %w", ErrDamaged)}
}

// readFull fills p with the bytes that follow.
func (c *chunks) readFull(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		if err := c.fill(ctx); err != nil {
			return err
		}
		n := copy(p, c.left)
		p, c.left = p[n:], c.left[n:]
	}
	return nil
}

// copyTo writes so many of the bytes that follow.
func (c *chunks) copyTo(ctx context.Context, w io.Writer, n int64) error {
	for n > 0 {
		if err := c.fill(ctx); err != nil {
			return err
		}
		part := c.left[:min(n, int64(len(c.left)))]
		if _, err := w.Write(part); err != nil {
			return err
		}
		c.left = c.left[len(part):]
		n -= int64(len(part))
	}
	return nil
}
