package source

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Retry says how often a server is asked again that failed for a passing reason: it is
// overloaded, or the connection broke. Zero fields take defaults, which are those of
// registries.
type Retry struct {
	// Attempts counts the first one too (0: 5).
	Attempts int
	// Wait is the pause after the first failure; it doubles up to MaxWait (0: 250 ms and
	// 8 s). Retry-After is honoured up to MaxWait.
	Wait, MaxWait time.Duration
}

// refusedAttempts is how often to knock where nobody listens.
const refusedAttempts = 3

// again calls f until it succeeds, fails for a lasting reason, or has been tried often
// enough. The error is the last one.
func (r Retry) again(ctx context.Context, f func() error) error {
	attempts, wait, longest := cmp.Or(r.Attempts, 5), cmp.Or(r.Wait, 250*time.Millisecond), cmp.Or(r.MaxWait, 8*time.Second)
	for attempt := 1; ; attempt++ {
		err := f()
		if isRefused(err) {
			attempts = min(attempts, refusedAttempts)
		}
		if err == nil || attempt >= attempts || !isPassing(err) || ctx.Err() != nil {
			return err
		}
		pause := wait
		var status *StatusError
		if errors.As(err, &status) && status.retryAfter > pause {
			pause = min(status.retryAfter, longest)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		wait = min(2*wait, longest)
	}
}

// isPassing reports whether a failure may go away by itself.
func isPassing(err error) bool {
	var status *StatusError
	var down *UnreachableError
	var git *GitError
	switch {
	case errors.As(err, &status):
		return status.Code == http.StatusRequestTimeout || status.Code == http.StatusTooManyRequests ||
			status.Code >= 500 && status.Code != http.StatusNotImplemented
	case errors.As(err, &git):
		return git.passing()
	case !errors.As(err, &down):
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return !dns.IsNotFound
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" { // an alert of TLS
		return false
	}
	var ne net.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, errSilent) || errors.As(err, &ne)
}

// isRefused reports whether nobody listens.
func isRefused(err error) bool {
	var git *GitError
	return errors.Is(err, syscall.ECONNREFUSED) ||
		errors.As(err, &git) && (strings.Contains(git.Stderr, "Connection refused") || strings.Contains(git.Stderr, "Failed to connect"))
}

// passing is isPassing, as far as git says why it failed.
func (e *GitError) passing() bool {
	if e.Unauthorized() {
		return false
	}
	for _, s := range []string{
		"error: 408", "error: 429", "error: 500", "error: 502", "error: 503", "error: 504",
		"Connection refused", "Failed to connect", "Connection reset", "timed out", "early EOF", "Empty reply from server",
		"unexpected disconnect", "hung up unexpectedly",
	} {
		if strings.Contains(e.Stderr, s) {
			return true
		}
	}
	return false
}

// retryAfter is how long a server asks to wait (RFC 9110, section 10.2.3: seconds or a
// date), 0 if it does not.
func retryAfter(resp *http.Response) time.Duration {
	value := resp.Header.Get("Retry-After")
	if s, err := strconv.Atoi(value); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}
