package unpack

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// chunk is how much is read or copied at once.
const chunk = 256 << 10

// readAhead reads a stream in a goroutine, a few chunks in advance.
type readAhead struct {
	full, free chan []byte
	cur, rest  []byte
	err        error // of the stream; valid when full is closed
	// seen, if set, is given every chunk when Read comes to it.
	seen   func([]byte)
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newReadAhead(ctx context.Context, r io.Reader) *readAhead {
	const n = 4
	ctx, cancel := context.WithCancel(ctx)
	a := &readAhead{full: make(chan []byte, n), free: make(chan []byte, n), cancel: cancel}
	for range n {
		a.free <- make([]byte, chunk)
	}
	a.wg.Go(func() {
		defer close(a.full)
		a.err = a.fill(ctx, r)
	})
	return a
}

func (a *readAhead) fill(ctx context.Context, r io.Reader) error {
	for {
		select {
		case b := <-a.free:
			n, err := readFull(r, b[:cap(b)])
			a.full <- b[:n] // never blocks: as many places as chunks
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readFull fills b as far as the stream goes and passes the stream's own error on,
// unlike io.ReadFull, which does not tell a cut-off stream from a short one.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

// Read implements io.Reader.
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur != nil {
			a.free <- a.cur
			a.cur = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		if a.seen != nil {
			a.seen(b)
		}
		a.cur, a.rest = b, b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine and waits for it; the stream must not block for ever.
func (a *readAhead) Close() error {
	a.cancel()
	a.wg.Wait()
	return nil
}

// streamHash hashes and counts a stream.
type streamHash struct {
	h hash.Hash
	n int64
}

func newStreamHash() *streamHash { return &streamHash{h: sha256.New()} }

func (h *streamHash) add(b []byte) {
	h.h.Write(b)
	h.n += int64(len(b))
}

func (h *streamHash) digest() digest.Digest { return digest.NewDigest(digest.SHA256, h.h) }
