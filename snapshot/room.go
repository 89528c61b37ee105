package snapshot

import (
	"context"
	"io"
)

// Room makes room for so many bytes more, or says why there is none. It may remove
// what nothing uses, and is called from several goroutines at once.
type Room func(ctx context.Context, bytes int64) error

// SetRoom sets what is asked before the store grows. It is called before the store
// is used.
func (s *Store) SetRoom(room Room) { s.room = room }

// grow asks for room for a large write: known in advance, or a piece of it.
func (s *Store) grow(ctx context.Context, bytes int64) error {
	if s.room == nil {
		return nil
	}
	return s.room(ctx, bytes)
}

// growStep is how much of what has no known length is asked for at once. What is
// smaller is not asked for.
const growStep = 16 << 20

// unpackedRatio is how much larger than its compressed form a layer is expected to be.
const unpackedRatio = 3

// growth asks for room while a stream of unknown length is written.
type growth struct {
	s       *Store
	ctx     context.Context //nolint:containedctx // lives as long as the stream
	n, room int64
}

// add is told of bytes before they are written.
func (g *growth) add(n int) error {
	g.n += int64(n)
	if g.s.room == nil || g.n <= g.room+growStep {
		return nil
	}
	ask := g.n - g.room
	g.room = g.n
	return g.s.grow(g.ctx, ask)
}

// growingReader asks for room for what is read.
type growingReader struct {
	io.Reader
	g growth
}

// Read implements io.Reader.
func (r *growingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if gerr := r.g.add(n); gerr != nil {
		return 0, gerr
	}
	return n, err
}
