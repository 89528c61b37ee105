package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot"
)

// ErrNoRoom says that something does not fit into the store's budget.
var ErrNoRoom = errors.New("no room in the store")

// roomKeeper keeps the store within its budget before it grows. It counts what was let
// in, since it was last known how large the store is, and collects when that might be
// too much.
type roomKeeper struct {
	e *Engine

	mu     sync.Mutex // guards what follows
	begun  bool
	budget Budget
	// own is what counts where the budget is only the default: the store's account as it
	// was, and what this process let in. Where the budget is kept the store's account is
	// asked each time, with what other processes let in.
	own    snapshot.Account
	pruned time.Time
}

var _ snapshot.Room = (*roomKeeper)(nil)

// softPause lies between collections that may not have helped, where nothing is refused:
// the budget is only the default, or what is written is small.
const softPause = time.Minute

// smallest is how much at once is refused. So a store is never larger than what is in
// use by so much for each thing that is written at once, and what one RUN leaves.
const smallest = 8 << 20

// Grow implements snapshot.Room.
func (k *roomKeeper) Grow(ctx context.Context, n int64) error {
	ok, used, err := k.ask(ctx, n)
	if err != nil || ok {
		return err
	}
	return &mistake.Advised{
		Err: fmt.Errorf("%w: %s are used of %s (max-used-space), and %s more are needed; nothing else can be removed",
			ErrNoRoom, units.BytesSize(float64(used)), units.BytesSize(float64(k.budget.MaxUsed)), units.BytesSize(float64(n))),
		Hint: "remove images with `builder rmi`, or raise BUILDER_MAX_USED_SPACE",
	}
}

// Guess implements snapshot.Room.
func (k *roomKeeper) Guess(ctx context.Context, n int64) (bool, error) {
	ok, _, err := k.ask(ctx, n)
	return ok, err
}

// Settle implements snapshot.Room.
func (k *roomKeeper) Settle(let, written int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.begun || !k.budget.On {
		return
	}
	err := k.account(context.Background(), func(a *snapshot.Account, owner string) error {
		a.Settle(owner, let, written)
		return nil
	})
	if err == nil { // otherwise it ends with this process; until then it counts twice
		k.noted(written - let)
	}
}

// ask lets so many bytes more in, if there is or can be made room for them. It returns
// how large the store is.
func (k *roomKeeper) ask(ctx context.Context, n int64) (ok bool, used int64, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(ctx); err != nil || !k.budget.On {
		return true, 0, err
	}
	free, err := collect.FreeSpace(k.e.Root())
	if err != nil {
		return false, 0, err
	}
	// What is small, or exceeds the default budget only, is let in all the same.
	refuse := k.budget.Hard && n >= smallest
	var before snapshot.Account
	enter := func(a *snapshot.Account, owner string) error {
		if ok {
			a.Enter(owner, n)
		}
		used, before = a.Total(), a.Clone()
		return nil
	}
	err = k.account(ctx, func(a *snapshot.Account, owner string) error {
		ok = k.fits(a, n) && n <= free || !refuse && time.Since(k.pruned) < softPause
		return enter(a, owner)
	})
	if !ok && err == nil {
		left, perr := k.prune(ctx, before.Pending(), n, free)
		if perr != nil && (refuse || ctx.Err() != nil) {
			return false, used, perr
		}
		k.pruned = time.Now()
		err = k.account(ctx, func(a *snapshot.Account, owner string) error {
			// The store's account has what was measured. Where that failed who writes will
			// see whether there is room.
			if perr == nil && !k.budget.Hard {
				a.Measured(left, before)
			}
			ok = !refuse || k.fits(a, n)
			return enter(a, owner)
		})
	}
	if ok && err == nil {
		k.noted(n)
	}
	return ok, used, err
}

// account calls fn with the account that counts. The caller has locked mu.
func (k *roomKeeper) account(ctx context.Context, fn func(a *snapshot.Account, owner string) error) error {
	if k.budget.Hard {
		return k.e.Store.WithAccount(ctx, fn)
	}
	return fn(&k.own, "")
}

// noted says what the store's account has of what this process writes.
func (k *roomKeeper) noted(n int64) {
	if k.budget.Hard {
		k.e.Store.Noted(n)
	}
}

// fits reports whether so many bytes more are within the budget.
func (k *roomKeeper) fits(a *snapshot.Account, n int64) bool {
	return k.budget.MaxUsed == 0 || a.Total()+n <= k.budget.MaxUsed
}

// begin reads the budget and finds out how large the store is.
func (k *roomKeeper) begin(ctx context.Context) (err error) {
	if k.begun {
		return nil
	}
	if k.budget, err = k.e.host.budget(); err != nil || !k.budget.On {
		k.begun = err == nil
		return err
	}
	if !k.budget.Hard {
		k.own = k.e.Store.Account()
		k.own.Open = nil
	} else if err := k.measure(ctx); err != nil {
		return err
	}
	k.begun = true
	return nil
}

// measure finds out how large the store is, if nobody knows. Whoever else wants to know
// waits.
func (k *roomKeeper) measure(ctx context.Context) error {
	return k.e.Store.WithAccount(ctx, func(a *snapshot.Account, _ string) error {
		if !a.Checked.IsZero() {
			return nil
		}
		written := k.e.Store.Unnoted()
		used, err := k.e.Collector().Size(ctx)
		if err != nil {
			return err
		}
		a.Measured(used, *a)
		k.e.Store.Noted(written)
		return nil
	})
}

// prune removes what must go for so many bytes more, besides those that are pending.
// Nobody waits for it but this process. It returns how large the store is then.
func (k *roomKeeper) prune(ctx context.Context, pending, n, free int64) (left int64, err error) {
	b := k.budget.Budget
	if b.MaxUsed > 0 {
		b.MaxUsed = max(1, b.MaxUsed-n-pending)
	}
	b.Reserved, b.MinFree = min(b.Reserved, b.MaxUsed), 0
	if n > free {
		b.MinFree = n
		b.Reserved = 0
	}
	pruned, err := k.e.Collector().Prune(ctx, collect.PruneOptions{All: true, Budget: b})
	if err != nil {
		return 0, fmt.Errorf("make room in the store: %w", err)
	}
	return pruned.Left, nil
}
