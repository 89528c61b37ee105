package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// tries is how often reading goes on where it broke without any byte having come.
const tries = 3

// reader reads a blob of a place to its end: it goes on where that breaks, and does not
// wait for ever.
type reader struct {
	ctx    context.Context //nolint:containedctx // the reader lives as long as the fetch
	from   Backend
	blob   Blob
	r      io.ReadCloser
	at     int64
	broken int // tries since the last byte
}

func newReader(ctx context.Context, from Backend, b Blob, offset int64) (io.ReadCloser, error) {
	r := &reader{ctx: ctx, from: from, blob: b, at: offset}
	for {
		err := r.open()
		if err == nil {
			return r, nil
		}
		if err := r.again(err); err != nil {
			return nil, err
		}
	}
}

func (r *reader) open() (err error) {
	r.r, err = r.from.Open(r.ctx, r.blob, r.at)
	return err
}

// again waits a little and returns nil if it is worth to go on after an error.
func (r *reader) again(err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	r.broken++
	if errors.Is(err, fs.ErrNotExist) || r.broken >= tries {
		return fmt.Errorf("read blob %s of cache %s: %w", r.blob.Digest, r.from, err)
	}
	select {
	case <-time.After(100 * time.Millisecond << r.broken):
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := r.read(p)
		r.at += int64(n)
		if n > 0 {
			r.broken = 0
		}
		switch {
		case r.at > r.blob.Size:
			return 0, fmt.Errorf("read blob %s of cache %s: it is longer than %d bytes", r.blob.Digest, r.from, r.blob.Size)
		case n > 0:
			return n, nil
		case errors.Is(err, io.EOF) && r.at == r.blob.Size:
			return 0, io.EOF
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		if err := r.reopen(err); err != nil {
			return 0, err
		}
	}
}

// read reads once; a place that is silent for long is left.
func (r *reader) read(p []byte) (int, error) {
	if r.r == nil {
		return 0, io.ErrUnexpectedEOF
	}
	open := r.r
	silent := time.AfterFunc(patience, func() { open.Close() })
	defer silent.Stop()
	return open.Read(p)
}

// reopen goes on at the offset after an error.
func (r *reader) reopen(err error) error {
	if r.r != nil {
		r.r.Close()
		r.r = nil
	}
	for {
		if err := r.again(err); err != nil {
			return err
		}
		if err = r.open(); err == nil {
			return nil
		}
	}
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.r == nil {
		return nil
	}
	return r.r.Close()
}
