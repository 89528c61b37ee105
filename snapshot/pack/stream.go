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
	c := &chunker{r: r, h: h, size: j.Record.Size, full: make(chan []byte, 3), free: make(chan []byte, 3)}
	if dst != nil {
		c.dst = dst
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
		c.free <- b[:cap(b)]
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

// chunker reads exactly size bytes in chunks.
type chunker struct {
	r          io.Reader
	dst        io.Writer
	h          hash.Hash
	size       int64
	look       io.Writer // may be nil
	full, free chan []byte
	err        error
	refused    error // what look said
}

func (c *chunker) run(ctx context.Context) {
	defer close(c.full)
	left := c.size
	for left > 0 {
		if ctx.Err() != nil {
			c.err = context.Cause(ctx)
			return
		}
		b := <-c.free
		b = b[:min(int64(len(b)), left)]
		n, err := io.ReadFull(c.r, b)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = object.ErrSize
			}
			c.err = err
			return
		}
		left -= int64(n)
		if c.h != nil {
			c.h.Write(b)
		}
		if c.look != nil {
			if _, c.refused = c.look.Write(b); c.refused != nil {
				return
			}
		}
		if c.dst != nil {
			if _, err := c.dst.Write(b); err != nil {
				c.err = err
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
