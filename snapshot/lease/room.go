package lease

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

// Grow asks for room for a large write whose size is known; a nil Room has it. Done is
// called when it is written, or failed.
func Grow(ctx context.Context, room Room, bytes int64) (done func(err error), err error) {
	g := NewGrowth(ctx, room)
	if err := g.Let(bytes); err != nil {
		return nil, err
	}
	g.n = bytes
	return func(err error) { g.Done(err == nil) }, nil
}

// growStep is how much of what has no known length is asked for at once. What is
// smaller is not asked for.
const growStep = 8 << 20

// Growth asks for room while something of unknown length is written, by one goroutine.
type Growth struct {
	room Room            // nil when it is not asked, or no more
	ctx  context.Context //nolint:containedctx // lives as long as the stream

	n       int64 // bytes that are written or are about to be
	in      int64 // bytes that were let in
	settled int64 // of them, those that are known to be on disk
	// tight says that there is little room: everything is asked for before it is
	// written.
	tight bool
}

// NewGrowth begins to write; a nil Room lets everything in.
func NewGrowth(ctx context.Context, room Room) *Growth { return &Growth{room: room, ctx: ctx} }

// Let asks for room in advance.
func (g *Growth) Let(bytes int64) error {
	if g.room == nil {
		return nil
	}
	if err := g.room.Grow(g.ctx, bytes); err != nil {
		return err
	}
	g.in += bytes
	return nil
}

// Guess asks for as much as is probably needed. If there is not so much, it is asked
// for by and by.
func (g *Growth) Guess(bytes int64) error {
	if g.room == nil {
		return nil
	}
	ok, err := g.room.Guess(g.ctx, bytes)
	if ok {
		g.in += bytes
	}
	g.tight = !ok
	return err
}

// Add is told of bytes before they are written.
func (g *Growth) Add(bytes int64) error {
	if g.room == nil {
		g.n += bytes
		return nil
	}
	g.settle(min(g.n, g.in))
	g.n += bytes
	switch need := g.n - g.in; {
	case need <= 0, need <= growStep && !g.tight:
		return nil
	default:
		return g.Let(max(need, growStep))
	}
}

// settle says that so many bytes in all are on disk, not for every few of them.
func (g *Growth) settle(written int64) {
	if d := written - g.settled; d >= growStep {
		g.room.Settle(d, d)
		g.settled = written
	}
}

// Done ends the growth. What is not kept is removed by the caller. It is idempotent.
func (g *Growth) Done(kept bool) {
	if g.room == nil {
		return
	}
	written := -g.settled
	if kept {
		written += g.n
	}
	g.room.Settle(g.in-g.settled, written)
	g.room = nil
}
