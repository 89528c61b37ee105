package pack

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	sinkChunk  = 256 << 10
	sinkChunks = 4 // how many there are at most
)

// tarSink receives the bytes of a tar and hashes them, and writes them where
// asked, in a goroutine of its own, so that whoever makes the bytes goes on.
type tarSink struct {
	buf        []byte
	full, free chan []byte
	h          hash.Hash
	out        io.Writer // may be nil
	tap        io.Writer // may be nil; its errors are its own affair
	pos        int64
	chunks     int // made so far
	wg         sync.WaitGroup
	mu         sync.Mutex
	err        error // of out
}

func newTarSink(out, tap io.Writer) *tarSink {
	t := &tarSink{full: make(chan []byte, sinkChunks), free: make(chan []byte, sinkChunks), h: sha256.New(), out: out, tap: tap}
	t.buf = t.chunk()
	t.wg.Go(t.drain)
	return t
}

func (t *tarSink) drain() {
	for b := range t.full {
		t.h.Write(b)
		if t.out != nil && t.failed() == nil {
			if _, err := t.out.Write(b); err != nil {
				t.mu.Lock()
				t.err = err
				t.mu.Unlock()
			}
		}
		if t.tap != nil {
			if _, err := t.tap.Write(b); err != nil {
				t.tap = nil
			}
		}
		t.free <- b[:0]
	}
}

// failed returns the first error of the output.
func (t *tarSink) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *tarSink) write(p []byte) {
	t.pos += int64(len(p))
	for len(p) > 0 {
		n := min(len(p), cap(t.buf)-len(t.buf))
		t.buf = append(t.buf, p[:n]...)
		p = p[n:]
		if len(t.buf) == cap(t.buf) {
			t.full <- t.buf
			t.buf = t.chunk()
		}
	}
}

// chunk returns an empty chunk; small tars need only one.
func (t *tarSink) chunk() []byte {
	if t.chunks == sinkChunks {
		return <-t.free
	}
	select {
	case b := <-t.free:
		return b
	default:
		t.chunks++
		return make([]byte, 0, sinkChunk)
	}
}

var zeros [1024]byte

// zero writes n zero bytes, at most 1024.
func (t *tarSink) zero(n int64) { t.write(zeros[:n]) }

// finish ends the stream and waits for the goroutine; it is called exactly once.
func (t *tarSink) finish() (digest.Digest, error) {
	t.full <- t.buf
	close(t.full)
	t.wg.Wait()
	return digest.NewDigest(digest.SHA256, t.h), t.err
}
