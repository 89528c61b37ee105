package object

import (
	"context"
	"sync"
	"time"
)

const (
	// soon is how long before their end credentials are asked for anew.
	soon = 5 * time.Minute
	// rest is how long who gave no credentials is left alone.
	rest = 30 * time.Second
)

// Held keeps credentials while they are valid.
type Held[T any] struct {
	// Ask gets them, and says when they end; zero: never.
	Ask func(ctx context.Context) (T, time.Time, error)

	mu    sync.Mutex
	have  bool      // guarded by mu
	value T         // guarded by mu
	ends  time.Time // guarded by mu
	// failed is why there are none, so that not every request has to find out.
	failed error     // guarded by mu
	since  time.Time // guarded by mu
}

// Get returns the credentials; whoever comes while they are asked for waits.
func (h *Held[T]) Get(ctx context.Context) (T, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.have && (h.ends.IsZero() || time.Until(h.ends) > soon) {
		return h.value, nil
	}
	var zero T
	if h.failed != nil && time.Since(h.since) < rest {
		return zero, h.failed
	}
	value, ends, err := h.Ask(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.failed, h.since = err, time.Now()
		}
		return zero, err
	}
	h.failed, h.have, h.value, h.ends = nil, true, value, ends
	return value, nil
}

// Forget forgets credentials that end some time, since others may be had then, and reports
// whether it did.
func (h *Held[T]) Forget() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ends.IsZero() {
		return false
	}
	h.have = false
	return true
}
