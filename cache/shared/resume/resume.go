// Package resume reads blobs to their end from places that may break off or be silent.
package resume

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

// Blob is what is read.
type Blob struct {
	// Name is what errors call it.
	Name string
	// Size is how many bytes it has.
	Size int64
	// Patience is how long a silent place is waited for.
	Patience time.Duration
	// Open opens it from an offset. Nothing is tried again if the error matches
	// fs.ErrNotExist.
	Open func(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// reader reads a blob to its end: it goes on where that breaks, and does not wait for ever.
type reader struct {
	ctx    context.Context //nolint:containedctx // the reader lives as long as the fetch
	blob   Blob
	r      io.ReadCloser
	at     int64
	broken int // tries since the last byte
}

// Open opens a blob from an offset. The caller closes the reader, which lives as long as ctx,
// and verifies what it gives: it is as long as it should be, no more. Errors name the blob.
func Open(ctx context.Context, b Blob, offset int64) (io.ReadCloser, error) {
	r := &reader{ctx: ctx, blob: b, at: offset}
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
	r.r, err = r.blob.Open(r.ctx, r.at)
	return err
}

// again waits a little and returns nil if it is worth to go on after an error.
func (r *reader) again(err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	r.broken++
	if errors.Is(err, fs.ErrNotExist) || r.broken >= tries {
		return fmt.Errorf("read %s: %w", r.blob.Name, err)
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
			return 0, fmt.Errorf("read %s: it is longer than %d bytes", r.blob.Name, r.blob.Size)
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
	silent := time.AfterFunc(r.blob.Patience, func() { open.Close() })
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
