package transport

import (
	"cmp"
	"context"
	"errors"
	"syscall"
	"time"

	"layered.build/builder/registry/errdef"
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

// Again calls f until it succeeds, fails for a lasting reason (see IsPassing), or has been
// tried often enough. It waits longer each time; the error is the last one.
func (p *Pool) Again(ctx context.Context, f func() error) error {
	return p.times(ctx, p.o.Retry.Attempts, f)
}

// refusedAttempts is how often to knock where nobody listens.
const refusedAttempts = 3

func (p *Pool) times(ctx context.Context, attempts int, f func() error) error {
	wait := p.o.Retry.Wait
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt >= attempts || !IsPassing(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			attempts = min(attempts, refusedAttempts)
		}
		var se *statusError
		pause := wait
		if errors.As(err, &se) && se.retryAfter > pause {
			pause = min(se.retryAfter, p.o.Retry.MaxWait)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		wait = min(2*wait, p.o.Retry.MaxWait)
	}
}

// Attempts is how often something is tried in all.
func (p *Pool) Attempts() int { return p.o.Retry.Attempts }

// Pause waits after so many failures in a row. It fails with the cause of ctx.
func (p *Pool) Pause(ctx context.Context, failures int) error {
	return sleep(ctx, min(p.o.Retry.Wait<<max(failures-1, 0), p.o.Retry.MaxWait))
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

// Call is something that is done in a session.
type Call struct {
	// Op and Object are for errors: "get layer", "sha256:…".
	Op, Object string
	// Do does it; its errors are given to Session.Fail.
	Do func(s *Session) error
}

// Pull does something in a session with one endpoint, several times if need be.
func (p *Pool) Pull(ctx context.Context, ep routing.Endpoint, c Call) error {
	attempts := p.o.Retry.Attempts
	if ep.Mirror {
		attempts = min(attempts, mirrorAttempts)
	}
	s, err := p.Open(ep, "pull")
	if err != nil {
		return err
	}
	err = p.times(ctx, attempts, func() error { return s.Fail(c.Op, c.Object, c.Do(s)) })
	if ctx.Err() == nil {
		p.noteDown(ep, err)
	}
	return err
}

// mirrorRest is how long a mirror that did not answer is left alone.
const mirrorRest = time.Minute

// Rests reports whether an endpoint is a mirror that did not answer of late.
func (p *Pool) Rests(ep routing.Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, ok := p.down[ep.Host]
	return ep.Mirror && ok && time.Since(since) < mirrorRest
}

// noteDown remembers a mirror that does not answer, so that not every request
// has to find out again.
func (p *Pool) noteDown(ep routing.Endpoint, err error) {
	if ep.Mirror && errors.Is(err, errdef.ErrUnreachable) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.down[ep.Host] = time.Now()
	}
}
