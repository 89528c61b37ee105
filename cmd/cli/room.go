package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/cmd/collect"
)

// roomKeeper keeps the store within its budget before it grows. It counts what it
// let in, since it last knew how large the store is, and collects when that might be
// too much.
type roomKeeper struct {
	e *engine

	mu      sync.Mutex
	begun   bool
	budget  collect.Budget
	on      bool
	hard    bool
	used    int64 // at last
	entered int64 // since
	pruned  time.Time
}

// softPause lies between collections that may not have helped, where nothing is refused:
// the budget is only the default, or what is written is small.
const softPause = time.Minute

// smallest is how much at once is refused. So a store is never larger than what is in
// use by so much and what one RUN leaves.
const smallest = 8 << 20

// room is a snapshot.Room.
func (k *roomKeeper) room(ctx context.Context, n int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(ctx); err != nil || !k.on {
		return err
	}
	free, err := collect.FreeSpace(k.e.root)
	if err != nil {
		return err
	}
	if k.fits(n) && n <= free {
		k.entered += n
		return nil
	}
	refuse := k.hard && n >= smallest
	if !refuse && time.Since(k.pruned) < softPause {
		return nil
	}
	if err := k.prune(ctx, n, free); err != nil {
		if refuse || ctx.Err() != nil {
			return err
		}
		k.pruned = time.Now() // who writes will see whether there is room
		return nil
	}
	k.entered = n
	if refuse && !k.fits(0) {
		k.entered = 0
		return &hinted{
			err: fmt.Errorf("no room in the store: %s are used of %s (max-used-space), and %s more are needed; nothing else can be removed",
				units.BytesSize(float64(k.used)), units.BytesSize(float64(k.budget.MaxUsed)), units.BytesSize(float64(n))),
			hint: "remove images with `builder rmi`, or raise BUILDER_MAX_USED_SPACE",
		}
	}
	return nil
}

// fits reports whether so many bytes more are within the budget.
func (k *roomKeeper) fits(n int64) bool {
	return k.budget.MaxUsed == 0 || k.used+k.entered+n <= k.budget.MaxUsed
}

// begin reads the budget and finds out how large the store is.
func (k *roomKeeper) begin(ctx context.Context) (err error) {
	if k.begun {
		return nil
	}
	if k.budget, k.on, k.hard, err = k.e.budget(); err != nil || !k.on {
		k.begun = err == nil
		return err
	}
	known := false
	if k.used, known = k.e.collector().Estimate(); !known && k.hard {
		if k.used, err = k.e.collector().Size(ctx); err != nil {
			return err
		}
	}
	k.begun = true
	return nil
}

// prune removes what must go for so many bytes more.
func (k *roomKeeper) prune(ctx context.Context, n, free int64) error {
	b := k.budget
	if b.MaxUsed > 0 {
		b.MaxUsed = max(1, b.MaxUsed-n)
	}
	b.Reserved, b.MinFree = min(b.Reserved, b.MaxUsed), 0
	if n > free {
		b.MinFree = n
		b.Reserved = 0
	}
	pruned, err := k.e.collector().Prune(ctx, collect.PruneOptions{All: true, Budget: b})
	if err != nil {
		return fmt.Errorf("make room in the store: %w", err)
	}
	k.used, k.pruned = pruned.Left, time.Now()
	return nil
}
