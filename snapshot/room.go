package snapshot

import "context"

// Room is asked before the store grows. Its methods are called from several goroutines
// at once.
type Room interface {
	// Grow makes room for so many bytes more, or says why there is none. It may remove
	// what nothing uses. What was let in counts until Settle is told what became of it.
	Grow(ctx context.Context, bytes int64) error
	// Guess is Grow for a number that may be too large: where there is no room for
	// all of it, nothing is let in, and the answer is false.
	Guess(ctx context.Context, bytes int64) (bool, error)
	// Settle says that of the bytes that were let in, written are on disk now and the
	// others never will be.
	Settle(let, written int64)
}

// SetRoom sets what is asked before the store grows. It is called before the store
// is used.
func (s *Store) SetRoom(room Room) { s.room = room }

// grow asks for room for a large write whose size is known. Done is called when it is
// written, or failed.
func (s *Store) grow(ctx context.Context, bytes int64) (done func(err error), err error) {
	g := &growth{s: s, ctx: ctx}
	if err := g.let(bytes); err != nil {
		return nil, err
	}
	g.n = bytes
	return func(err error) { g.done(err == nil) }, nil
}

// growStep is how much of what has no known length is asked for at once. What is
// smaller is not asked for.
const growStep = 8 << 20

// unpackedRatio is how much larger than its compressed form a layer is expected to be.
const unpackedRatio = 3

// growth asks for room while something of unknown length is written, by one goroutine.
type growth struct {
	s   *Store
	ctx context.Context //nolint:containedctx // lives as long as the stream

	n       int64 // bytes that are written or are about to be
	room    int64 // bytes that were let in
	settled int64 // of them, those that are known to be on disk
	// tight says that there is little room: everything is asked for before it is
	// written.
	tight bool
}

// let asks for room in advance.
func (g *growth) let(bytes int64) error {
	if g.s.room == nil {
		return nil
	}
	if err := g.s.room.Grow(g.ctx, bytes); err != nil {
		return err
	}
	g.room += bytes
	return nil
}

// guess asks for as much as is probably needed. If there is not so much, it is asked
// for by and by.
func (g *growth) guess(bytes int64) error {
	if g.s.room == nil {
		return nil
	}
	ok, err := g.s.room.Guess(g.ctx, bytes)
	if ok {
		g.room += bytes
	}
	g.tight = !ok
	return err
}

// add is told of bytes before they are written.
func (g *growth) add(bytes int64) error {
	if g.s.room == nil {
		g.n += bytes
		return nil
	}
	g.settle(min(g.n, g.room))
	g.n += bytes
	switch need := g.n - g.room; {
	case need <= 0, need <= growStep && !g.tight:
		return nil
	default:
		return g.let(max(need, growStep))
	}
}

// settle says that so many bytes in all are on disk, not for every few of them.
func (g *growth) settle(written int64) {
	if d := written - g.settled; d >= growStep {
		g.s.room.Settle(d, d)
		g.settled = written
	}
}

// done ends the growth. What is not kept is removed by the caller. It is idempotent.
func (g *growth) done(kept bool) {
	if g.s == nil || g.s.room == nil {
		return
	}
	written := -g.settled
	if kept {
		written += g.n
	}
	g.s.room.Settle(g.room-g.settled, written)
	*g = growth{}
}
