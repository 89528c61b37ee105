package registry

import (
	"context"
	"fmt"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/remote"
	"layered.build/builder/registry/routing"
	"layered.build/builder/registry/transport"
	"layered.build/builder/snapshot"
)

// blobSource opens one blob, as often as it is wanted.
type blobSource struct {
	c    *Client
	desc ocispec.Descriptor
	refs []Reference
	// eps, unless nil, are where the only one of refs is read.
	eps []routing.Endpoint

	mu sync.Mutex
	// begun says that the blob has been read from its beginning before: since
	// breaks are mended in the reader, its content must have been wrong.
	begun bool // guarded by mu
}

// open reads the blob from an offset on, going on where it stopped when a connection
// breaks, and going elsewhere when a mirror cannot help. What fails for good has been
// tried often enough.
func (src *blobSource) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	src.mu.Lock()
	again := src.begun && offset == 0
	src.begun = src.begun || offset == 0
	src.mu.Unlock()
	b := &blobReader{ctx: ctx, c: src.c, desc: src.desc, progress: ProgressOf(ctx), at: offset}
	for _, ref := range src.refs {
		eps := src.eps
		if eps == nil {
			var err error
			if eps, err = src.c.routes.Pull(ref); err != nil {
				return nil, err
			}
		}
		for _, ep := range eps {
			if !ep.Mirror || !again {
				b.eps = append(b.eps, ep)
			}
		}
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, nil
}

// blobReader is the content of one blob.
type blobReader struct {
	ctx      context.Context //nolint:containedctx // the reader lives as long as the fetch
	c        *Client
	desc     ocispec.Descriptor
	eps      []routing.Endpoint
	progress Progress

	ep    int // index into eps of the current one
	body  io.ReadCloser
	at    int64
	fails int // in a row without any byte
}

// connect opens the blob at the current offset, at the current endpoint or one
// after it.
func (b *blobReader) connect() error {
	var failed []error
	for ; b.ep < len(b.eps); b.ep++ {
		if b.c.pool.Rests(b.eps[b.ep]) {
			continue
		}
		err := b.c.pool.Pull(b.ctx, b.eps[b.ep], transport.Call{Op: "get layer", Object: b.desc.Digest.String(), Do: func(s *transport.Session) error {
			body, err := remote.GetBlob(b.ctx, s, b.desc, b.at)
			b.body = body
			return err
		}})
		if err == nil || b.ctx.Err() != nil {
			return err
		}
		failed = append(failed, err)
	}
	for _, u := range b.desc.URLs {
		body, err := b.c.foreign(b.ctx, u, b.at, b.desc.Size)
		if err == nil {
			b.body = body
			return nil
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return &Error{Kind: ErrNotFound, Op: "get layer", Object: b.desc.Digest.String()}
	}
	last := len(failed) - 1
	return withMirrors(failed[last], failed[:last])
}

// foreign reads a layer that its registry must not distribute, from where its
// descriptor says, without credentials.
func (c *Client) foreign(ctx context.Context, where string, offset, size int64) (io.ReadCloser, error) {
	ep, err := c.routes.URL(where)
	if err != nil {
		return nil, err
	}
	s, err := c.pool.Anonymous(ep)
	if err != nil {
		return nil, err
	}
	var body io.ReadCloser
	err = c.pool.Again(ctx, func() error {
		var err error
		body, err = remote.GetURL(ctx, s, where, offset, size)
		return s.Fail("get foreign layer", config.RedactUserinfo(where), err)
	})
	return body, err
}

// Read implements io.Reader. The blob is as long as its descriptor says, or the error
// says what is wrong.
func (b *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		if size := b.desc.Size; size > 0 && b.at+int64(n) > size {
			return 0, fmt.Errorf("%w: more than the %d bytes that were announced", snapshot.ErrDigest, size)
		}
		if n > 0 {
			b.advance(p[:n])
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF && b.at >= b.desc.Size {
			return 0, io.EOF // the store verifies the digest
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err := b.resume(err); err != nil {
			return 0, err
		}
	}
}

func (b *blobReader) advance(p []byte) {
	b.at += int64(len(p))
	b.fails = 0
	b.progress(progress.Item(b.desc.Digest), b.at, b.desc.Size)
}

// resume goes on after a failure, unless nothing has come for several attempts.
func (b *blobReader) resume(cause error) error {
	b.body.Close()
	b.fails++
	host := ""
	if b.ep < len(b.eps) {
		host = b.eps[b.ep].Host
	}
	err := transport.Fail(host, credentials.Credential{}, "get layer", b.desc.Digest.String(), cause)
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if b.fails >= b.c.pool.Attempts() {
		if b.ep+1 >= len(b.eps) {
			return err
		}
		b.ep, b.fails = b.ep+1, 0
	}
	if err := b.c.pool.Pause(b.ctx, b.fails); err != nil {
		return err
	}
	return b.connect()
}

// Close implements io.Closer.
func (b *blobReader) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
