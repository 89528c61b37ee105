package inputs

import (
	"context"
	"io"
)

// readerOf returns a reader that ends with its context: standard input may never end, and
// a read of it cannot be interrupted.
func readerOf(ctx context.Context, r io.Reader) io.Reader {
	if r == nil {
		return eof{}
	}
	return &ctxReader{ctx: ctx, r: r}
}

type eof struct{}

// Read implements io.Reader.
func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// ctxReader reads in a goroutine, which a read that never returns keeps.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // lives as long as the stream
	r   io.Reader
	buf []byte
}

type readResult struct {
	n   int
	err error
}

// Read implements io.Reader.
func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	buf := c.buf[:len(p)] // not p: its owner may go on while the read still writes
	done := make(chan readResult, 1)
	go func() {
		n, err := c.r.Read(buf)
		done <- readResult{n, err}
	}()
	select {
	case res := <-done:
		return copy(p, buf[:res.n]), res.err
	case <-c.ctx.Done():
		return 0, context.Cause(c.ctx)
	}
}
