package registry

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"syscall"
	"time"

	"layered.build/builder/registry/routing"
)

// Retry says how often a request that failed for a passing reason (429, 5xx, a
// broken connection) is made again. Zero fields take defaults.
type Retry struct {
	// Attempts counts the first one too (0: 5).
	Attempts int
	// Wait is the pause after the first failure; it doubles up to MaxWait (0:
	// 250 ms and 8 s). Retry-After is honoured up to MaxWait.
	Wait, MaxWait time.Duration
}

// Timeouts bound how long a silent peer is waited for. Zero fields take defaults.
type Timeouts struct {
	// Dial, TLS and Header bound the steps of a request (0: 10 s, 10 s, 60 s).
	Dial, TLS, Header time.Duration
	// Stall is how long a body may stand still (0: 60 s).
	Stall time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Dial:   cmp.Or(t.Dial, 10*time.Second),
		TLS:    cmp.Or(t.TLS, 10*time.Second),
		Header: cmp.Or(t.Header, time.Minute),
		Stall:  cmp.Or(t.Stall, time.Minute),
	}
}

func (r Retry) withDefaults() Retry {
	return Retry{
		Attempts: cmp.Or(r.Attempts, 5),
		Wait:     cmp.Or(r.Wait, 250*time.Millisecond),
		MaxWait:  cmp.Or(r.MaxWait, 8*time.Second),
	}
}

// again calls f until it succeeds, fails for a lasting reason, or has been tried
// often enough. It waits longer each time.
func (p *pool) again(ctx context.Context, f func() error) error {
	return p.times(ctx, p.retry.Attempts, f)
}

// refusedAttempts is how often to knock where nobody listens.
const refusedAttempts = 3

func (p *pool) times(ctx context.Context, attempts int, f func() error) error {
	wait := p.retry.Wait
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt >= attempts || !passing(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			attempts = min(attempts, refusedAttempts)
		}
		var se *statusError
		pause := wait
		if errors.As(err, &se) && se.retryAfter > pause {
			pause = min(se.retryAfter, p.retry.MaxWait)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		wait = min(2*wait, p.retry.MaxWait)
	}
}

// attempts is how often something is tried.
func (p *pool) attempts() int { return p.retry.Attempts }

// pause waits after so many failures in a row.
func (p *pool) pause(ctx context.Context, failures int) error {
	return sleep(ctx, min(p.retry.Wait<<max(failures-1, 0), p.retry.MaxWait))
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

// mirrorAttempts is how often a mirror is asked: there is always the origin.
const mirrorAttempts = 2

// call is something that is done in a session.
type call struct {
	op, object string // for errors: "get layer", "sha256:…"
	// path and accept are those of the GET, below the repository, that do makes. A new
	// host may be asked so first; then do gets the answer, which it closes.
	path, accept string
	do           func(s *session, first *http.Response) error
}

// pull does something in a session with one endpoint, several times if need be.
func (p *pool) pull(ctx context.Context, ep routing.Endpoint, c call) error {
	attempts := p.retry.Attempts
	if ep.Mirror {
		attempts = min(attempts, mirrorAttempts)
	}
	var first *opening
	if c.path != "" {
		first = &opening{path: c.path, accept: c.accept}
		defer first.close()
	}
	err := p.times(ctx, attempts, func() error {
		s, err := p.openWith(ctx, ep, first, "pull")
		if err != nil {
			return err
		}
		return s.fail(c.op, c.object, c.do(s, first.take()))
	})
	if ctx.Err() == nil {
		p.noteDown(ep, err)
	}
	return err
}

// mirrorRest is how long a mirror that did not answer is left alone.
const mirrorRest = time.Minute

// rests reports whether an endpoint is a mirror that did not answer of late.
func (p *pool) rests(ep routing.Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, ok := p.down[ep.Host]
	return ep.Mirror && ok && time.Since(since) < mirrorRest
}

// noteDown remembers a mirror that does not answer, so that not every request
// has to find out again.
func (p *pool) noteDown(ep routing.Endpoint, err error) {
	if ep.Mirror && errors.Is(err, ErrUnreachable) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.down[ep.Host] = time.Now()
	}
}
