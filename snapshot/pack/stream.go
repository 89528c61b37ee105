package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/sparse"
)

// stream copies a large file into the tar: one goroutine reads, hashes and writes
// the file, while the caller feeds the tar.
func (p *packer) stream(ctx context.Context, j *job) (err error) {
	r, err := j.reader()
	if err != nil {
		return fmt.Errorf("read %s: %w", j.Record.Path, err)
	}
	defer r.Close()
	var dst *os.File
	if j.Dest != "" {
		dst, err = object.CreateFile(j.Dest)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dst.Close()) }()
	}
	var h *sparse.Hash
	if p.Manifest != nil {
		h = sparse.New()
	}
	c := &chunker{r: r, dst: dst, h: h, omit: p.sink.omit, size: j.Record.Size, full: make(chan chunk, 3), free: make(chan []byte, 3)}
	if f, off, ok := sparse.Place(r); ok {
		c.file, c.off, c.pass = f, off, r.(io.Seeker)
	}
	if p.Inspector != nil {
		c.look = p.Inspector.Content(&j.Record.Entry)
	}
	for range 3 {
		c.free <- make([]byte, sinkChunk)
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.run(ctx) })
	for b := range c.full {
		if b.zeros > 0 {
			p.sink.hole(ctx, b.zeros)
			continue
		}
		p.sink.write(b.data)
		c.free <- b.data[:cap(b.data)]
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(c.err, object.ErrSize) {
		return j.changed()
	}
	if c.refused != nil {
		return c.refused
	}
	if c.err != nil {
		return fmt.Errorf("read %s: %w", j.Record.Path, c.err)
	}
	if h != nil {
		err := j.check(h.Sum())
		if err != nil && h.LeavesOut() { // who wants it may have left nothing out
			err = j.checkWhole()
		}
		if err != nil {
			return err
		}
	}
	if dst != nil {
		return p.Maker.SetFileMeta(dst, &j.Record.Entry)
	}
	return nil
}

func (j *job) reader() (io.ReadCloser, error) {
	if j.Host != "" {
		return os.OpenFile(j.Host, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	}
	if j.Open == nil {
		return nil, errors.New("no content")
	}
	return j.Open()
}

// checkWhole is check with the digest of all that the item has.
func (j *job) checkWhole() error {
	r, err := j.reader()
	if err != nil {
		return fmt.Errorf("read %s: %w", j.Record.Path, err)
	}
	got, err := digest.SHA256.FromReader(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("read %s: %w", j.Record.Path, err)
	}
	if got != j.Want {
		return j.changed()
	}
	return nil
}

// chunk is a part of a file: bytes, or as many zeros as a hole reads as.
type chunk struct {
	data  []byte
	zeros int64
}

func (c *chunk) len() int64 { return int64(len(c.data)) + c.zeros }

// hole is what holes read as, a part of them at a time; nobody writes to it.
var hole = make([]byte, sinkChunk)

// isHole reports whether bytes are those of hole.
func isHole(b []byte) bool { return len(b) > 0 && &b[0] == &hole[0] }

// chunker reads exactly size bytes in chunks. Holes of a file that are as large as one are
// not read; they are holes in dst, and so are chunks of zeros.
type chunker struct {
	r    io.Reader
	dst  *os.File     // may be nil
	h    *sparse.Hash // may be nil
	omit func()       // called when something is left out of h
	size int64
	look io.Writer // may be nil
	full chan chunk
	free chan []byte
	err  error
	// refused is what look said.
	refused error

	file *os.File  // what r reads, if that can tell its holes
	off  int64     // where in it r begins
	pass io.Seeker // r
	data int64     // where it has data that is not passed yet
}

func (c *chunker) run(ctx context.Context) {
	defer close(c.full)
	for at := int64(0); at < c.size; {
		if ctx.Err() != nil {
			c.err = context.Cause(ctx)
			return
		}
		b, err := c.next(at)
		if err != nil {
			c.err = err
			return
		}
		at += b.len()
		c.hash(b)
		if c.look != nil {
			seen := b.data
			if b.zeros > 0 { // a part of a hole says it all
				seen = hole
			}
			if _, c.refused = c.look.Write(seen); c.refused != nil {
				return
			}
		}
		if c.dst != nil {
			if c.err = c.put(b, at); c.err != nil {
				return
			}
		}
		c.full <- b
	}
	var one [1]byte
	if n, _ := io.ReadFull(c.r, one[:]); n > 0 {
		c.err = object.ErrSize
	}
}

func (c *chunker) hash(b chunk) {
	if c.h == nil {
		return
	}
	c.h.Zeros(b.zeros)
	c.h.Write(b.data)
	if c.h.LeavesOut() {
		c.omit()
	}
}

// next returns what is at an offset, which all before was returned of.
func (c *chunker) next(at int64) (chunk, error) {
	if c.file != nil {
		zeros, err := c.skip(at)
		if zeros > 0 || err != nil {
			return chunk{zeros: zeros}, err
		}
	}
	b := (<-c.free)[:min(sinkChunk, c.size-at)]
	_, err := io.ReadFull(c.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = object.ErrSize
	}
	if err == nil && len(b) == sinkChunk && sparse.IsZero(b) { // the reader does not tell its holes
		c.free <- b
		return chunk{zeros: sinkChunk}, nil
	}
	return chunk{data: b}, err
}

// skip returns how large the hole at an offset of the file is, and passes over it, if it
// is large.
func (c *chunker) skip(at int64) (int64, error) {
	if at >= c.data { // how far it is to the next data is not known
		off, err := unix.Seek(int(c.file.Fd()), c.off+at, unix.SEEK_DATA)
		switch {
		case err == nil:
			c.data = min(off-c.off, c.size)
		case errors.Is(err, unix.ENXIO): // none follows
			fi, err := c.file.Stat()
			if err != nil {
				return 0, err
			}
			if fi.Size() < c.off+c.size {
				return 0, object.ErrSize
			}
			c.data = c.size
		default: // the file system does not tell
			c.data = at
		}
	}
	zeros := c.data - at
	if zeros < sinkChunk {
		zeros = 0
	}
	_, err := c.pass.Seek(at+zeros, io.SeekStart)
	return zeros, err
}

// put writes a chunk that ends at an offset. The file has its full length with the last.
func (c *chunker) put(b chunk, end int64) error {
	if b.zeros == 0 {
		_, err := c.dst.Write(b.data)
		return err
	}
	if end == c.size {
		return c.dst.Truncate(end)
	}
	_, err := c.dst.Seek(b.zeros, io.SeekCurrent)
	return err
}
