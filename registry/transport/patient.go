package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// errStalled is the cause of a request that was given up because nothing moved.
var errStalled = errors.New("no data for too long")

// patient bounds the time in which a peer may be silent: until the response's
// header, and between two pieces of a body, of the request or the response. The
// time that our own side takes to make the request's body does not count.
type patient struct {
	inner  http.RoundTripper
	limits Timeouts
	agent  string
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	dog := &watchdog{cancel: cancel}
	out := req.Clone(ctx)
	if p.agent != "" {
		out.Header.Set("User-Agent", p.agent)
	}
	dog.arm(p.limits.Header + p.limits.Dial + p.limits.TLS)
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = &watchedBody{body: out.Body, dog: dog, stall: p.limits.Stall, after: p.limits.Header}
	}
	resp, err := p.inner.RoundTrip(out)
	if err != nil {
		dog.disarm()
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	dog.disarm()
	resp.Body = &watchedBody{body: resp.Body, dog: dog, stall: p.limits.Stall, response: true, ctx: ctx}
	return resp, nil
}

func causeOf(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// watchdog ends a request when it is not disarmed in time.
type watchdog struct {
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	timer  *time.Timer // guarded by mu
}

func (d *watchdog) arm(after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil {
		d.timer = time.AfterFunc(after, func() { d.cancel(errStalled) })
		return
	}
	d.timer.Reset(after)
}

func (d *watchdog) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// watchedBody is the body of a request (read by the connection: the time between
// reads is the peer's) or of a response (the time in a read is the peer's).
type watchedBody struct {
	body     io.ReadCloser
	dog      *watchdog
	stall    time.Duration
	after    time.Duration // how long to wait after a request's last byte
	response bool
	ctx      context.Context //nolint:containedctx // the request's, to tell why it ended
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	if b.response {
		b.dog.arm(b.stall)
		n, err := b.body.Read(p)
		b.dog.disarm()
		if err != nil && err != io.EOF {
			err = causeOf(b.ctx, err)
		}
		return n, err
	}
	b.dog.disarm()
	n, err := b.body.Read(p)
	if err == nil {
		b.dog.arm(b.stall)
	} else {
		b.dog.arm(b.after)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	err := b.body.Close()
	if b.response {
		b.dog.disarm()
		b.dog.cancel(nil)
	}
	return err
}
