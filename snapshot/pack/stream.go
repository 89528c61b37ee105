package pack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/object"
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
	var h hash.Hash
	if p.Manifest != nil {
		h = sha256.New()
	}
	c := &chunker{r: r, dst: dst, h: h, size: j.Record.Size, full: make(chan []byte, 3), free: make(chan []byte, 3)}
	if f, ok := r.(*os.File); ok {
		if at, err := f.Seek(0, io.SeekCurrent); err == nil && at == 0 {
			c.file = f
		}
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
		p.sink.write(b)
		if &b[0] != &hole[0] {
			c.free <- b[:cap(b)]
		}
	}
	wg.Wait()
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
		if err := j.check([32]byte(h.Sum(nil))); err != nil {
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

// hole is what a chunk without data reads as; nobody writes to it.
var hole = make([]byte, sinkChunk)

// chunker reads exactly size bytes in chunks. Chunks that lie in a hole of a file are not
// read, and leave a hole in dst.
type chunker struct {
	r          io.Reader
	dst        *os.File // may be nil
	h          hash.Hash
	size       int64
	look       io.Writer // may be nil
	full, free chan []byte
	err        error
	refused    error // what look said

	file *os.File // r, if that can tell its holes
	data int64    // where it has data that is not passed yet
}

func (c *chunker) run(ctx context.Context) {
	defer close(c.full)
	for at := int64(0); at < c.size; {
		if ctx.Err() != nil {
			c.err = context.Cause(ctx)
			return
		}
		b, err := c.next(at, min(sinkChunk, c.size-at))
		if err != nil {
			c.err = err
			return
		}
		at += int64(len(b))
		if c.h != nil {
			c.h.Write(b)
		}
		if c.look != nil {
			if _, c.refused = c.look.Write(b); c.refused != nil {
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

// next returns the n bytes at an offset, which all before were returned of.
func (c *chunker) next(at, n int64) ([]byte, error) {
	if c.file != nil {
		empty, err := c.isHole(at, n)
		if empty || err != nil {
			return hole[:n], err
		}
	}
	b := <-c.free
	b = b[:n]
	_, err := io.ReadFull(c.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = object.ErrSize
	}
	return b, err
}

// isHole reports whether the n bytes at an offset of the file are in a hole, and passes
// over them then.
func (c *chunker) isHole(at, n int64) (bool, error) {
	if at >= c.data { // how far it is to the next data is not known
		off, err := unix.Seek(int(c.file.Fd()), at, unix.SEEK_DATA)
		switch {
		case err == nil:
			c.data = off
		case errors.Is(err, unix.ENXIO): // none follows
			fi, err := c.file.Stat()
			if err != nil {
				return false, err
			}
			if fi.Size() < c.size {
				return false, object.ErrSize
			}
			c.data = c.size
		default: // the file system does not tell
			c.data = at
		}
	}
	to := at
	if c.data >= at+n {
		to += n
	}
	if _, err := c.file.Seek(to, io.SeekStart); err != nil {
		return false, err
	}
	return to > at, nil
}

// put writes a chunk that ends at an offset. The file has its full length with the last.
func (c *chunker) put(b []byte, end int64) error {
	if &b[0] != &hole[0] {
		_, err := c.dst.Write(b)
		return err
	}
	if end == c.size {
		return c.dst.Truncate(end)
	}
	_, err := c.dst.Seek(int64(len(b)), io.SeekCurrent)
	return err
}
