package pack

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const (
	sinkChunk  = 256 << 10
	sinkChunks = 4 // how many there are at most
)

// tarSink receives the bytes of a tar and hashes them, and writes them where
// asked, in a goroutine of its own, so that whoever makes the bytes goes on. Files keep
// their holes.
type tarSink struct {
	buf        []byte
	full, free chan []byte
	h          hash.Hash
	out        io.Writer // may be nil
	file       *os.File  // out, if that can have holes
	tap        io.Writer // may be nil; its errors are its own affair
	pos, holes int64
	chunks     int // made so far
	wg         sync.WaitGroup
	mu         sync.Mutex
	err        error // of out

	mayOmit bool // the digest is not needed if it takes long
	omitted atomic.Bool
}

func newTarSink(to *Target) *tarSink {
	t := &tarSink{
		full: make(chan []byte, sinkChunks), free: make(chan []byte, sinkChunks), h: sha256.New(),
		out: to.Out, tap: to.Tap, mayOmit: to.MayOmit && to.Tap == nil,
	}
	if f, ok := to.Out.(*os.File); ok {
		if at, err := f.Seek(0, io.SeekCurrent); err == nil && at == 0 {
			t.file = f
		}
	}
	t.buf = t.chunk()
	t.wg.Go(t.drain)
	return t
}

func (t *tarSink) drain() {
	for b := range t.full {
		if !t.omitted.Load() {
			t.h.Write(b)
		}
		if t.out != nil && t.failed() == nil {
			if err := t.put(b); err != nil {
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
		if !isHole(b) {
			t.free <- b[:0]
		}
	}
}

// put writes a chunk to the output. The last one is no hole.
func (t *tarSink) put(b []byte) error {
	if t.file != nil && isHole(b) {
		_, err := t.file.Seek(int64(len(b)), io.SeekCurrent)
		return err
	}
	_, err := t.out.Write(b)
	return err
}

// omit ends the making of the digest, if that may be.
func (t *tarSink) omit() {
	if t.mayOmit {
		t.omitted.Store(true)
	}
}

// hole writes n zeros, unless the context ends.
func (t *tarSink) hole(ctx context.Context, n int64) {
	t.pos += n
	t.holes += n
	if t.out == nil && t.omitted.Load() { // there is no tap then
		return
	}
	if len(t.buf) > 0 {
		t.full <- t.buf
		t.buf = t.chunk()
	}
	for n > 0 && ctx.Err() == nil {
		part := hole[:min(n, sinkChunk)]
		t.full <- part
		n -= int64(len(part))
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

// finish ends the stream and waits for the goroutine; it is called exactly once. The
// digest is "" if it was omitted.
func (t *tarSink) finish() (digest.Digest, error) {
	t.full <- t.buf
	close(t.full)
	t.wg.Wait()
	if t.omitted.Load() {
		return "", t.err
	}
	return digest.NewDigest(digest.SHA256, t.h), t.err
}
