package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// signalError is the cause of a context that a signal ended.
type signalError struct{ sig syscall.Signal }

// Error implements error.
func (e signalError) Error() string {
	if e.sig == syscall.SIGINT {
		return "interrupted"
	}
	return fmt.Sprintf("ended by signal %d (%v)", int(e.sig), e.sig)
}

// patience is how long a second signal after the first counts as the same one: a
// terminal and a wrapper such as timeout(1) may both send it.
const patience = 500 * time.Millisecond

// withSignals returns a context that the first SIGINT, SIGTERM or SIGHUP ends. A second
// one ends the process at once; what that leaves is reclaimed by the next start.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var first time.Time
		for {
			select {
			case <-done:
				return
			case s := <-ch:
				sig := s.(syscall.Signal)
				switch {
				case first.IsZero():
					first = time.Now()
					cancel(signalError{sig})
				case time.Since(first) > patience:
					os.Exit(128 + int(sig))
				}
			}
		}
	})
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		wg.Wait()
		cancel(nil)
	}
}
