package object

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Retry says how often a request is made that the service failed to answer. Zero fields
// take defaults.
type Retry struct {
	// Attempts counts the first one too (0: 5).
	Attempts int
	// Wait is the pause after the first failure, of which a part is chosen by chance; it
	// doubles up to MaxWait (0: 200 ms and 8 s). Retry-After is honoured up to MaxWait.
	Wait, MaxWait time.Duration
	// Together has all requests pause when one was asked to.
	Together bool
	// Total, unless 0, bounds the time in which a request is made again. A service that
	// asks for fewer requests is asked again until then, however often.
	Total time.Duration
}

// few is how often to ask again where nobody answers or listens.
const few = 2

// attempts are those of one request.
type attempts struct {
	Retry
	begun time.Time
	made  int
	once  bool
}

func (r Retry) begin(once bool) *attempts {
	r.Attempts = cmp.Or(r.Attempts, 5)
	r.Wait = cmp.Or(r.Wait, 200*time.Millisecond)
	r.MaxWait = cmp.Or(r.MaxWait, 8*time.Second)
	return &attempts{Retry: r, begun: time.Now(), once: once}
}

// again reports whether to make the request again after a failure, and when.
func (a *attempts) again(f *Failure) (time.Duration, bool) {
	a.made++
	most := a.Attempts
	if f.silent() || errors.Is(f.err, syscall.ECONNREFUSED) {
		most = min(most, few)
	}
	if f.Status == http.StatusTooManyRequests && a.Total > 0 {
		most = math.MaxInt
	}
	if a.made >= most || !f.passing() || a.once && f.Status == 0 {
		return 0, false
	}
	wait := min(a.Wait<<min(a.made-1, 16), a.MaxWait)
	wait = wait/2 + rand.N(wait/2+1)
	wait = max(wait, min(f.retryAfter, a.MaxWait))
	return wait, a.Total == 0 || time.Since(a.begun)+wait <= a.Total
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gate keeps requests waiting for a while.
type gate struct {
	mu    sync.Mutex
	until time.Time // guarded by mu
}

func (g *gate) shut(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := time.Now().Add(d); t.After(g.until) {
		g.until = t
	}
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	d := time.Until(g.until)
	g.mu.Unlock()
	if d <= 0 {
		return nil
	}
	return sleep(ctx, d)
}
