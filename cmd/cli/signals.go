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

// signals are those that this process gets.
type signals struct {
	ch   chan os.Signal
	done chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	relay chan<- syscall.Signal
	ended int // how often an ending one was relayed
}

// watchSignals returns a context that the first SIGINT, SIGTERM or SIGHUP ends. A second
// one ends the process at once; what that leaves is reclaimed by the next start. A
// SIGHUP that whoever started this process ignores (nohup(1)) stays ignored. The caller
// stops it.
func watchSignals(parent context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(parent)
	s := &signals{ch: make(chan os.Signal, 16), done: make(chan struct{})}
	s.notify(ending())
	s.wg.Go(func() {
		defer cancel(nil)
		s.serve(cancel)
	})
	return ctx, s
}

// notify begins to take signals in, but for those that are ignored.
func (s *signals) notify(list []os.Signal) {
	for _, sig := range list {
		if sig != syscall.SIGHUP || !signal.Ignored(sig) {
			signal.Notify(s.ch, sig)
		}
	}
}

// ending are the signals that end this process.
func ending() []os.Signal {
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
}

func (s *signals) serve(cancel context.CancelCauseFunc) {
	var first time.Time
	for {
		var sig syscall.Signal
		select {
		case <-s.done:
			return
		case got := <-s.ch:
			sig = got.(syscall.Signal)
		}
		switch {
		case s.handOn(sig) || !ends(sig):
		case first.IsZero():
			first = time.Now()
			cancel(signalError{sig})
		case time.Since(first) > patience:
			os.Exit(128 + int(sig))
		}
	}
}

func ends(sig syscall.Signal) bool {
	return sig == syscall.SIGINT || sig == syscall.SIGTERM || sig == syscall.SIGHUP
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.done)
	s.wg.Wait()
}

// forceAfter is how often a process that a signal asks to end is asked, as with docker:
// the next one ends it.
const forceAfter = 2

// handOn gives a signal to whom they are relayed; false if there is nobody, or who was
// asked often enough.
func (s *signals) handOn(sig syscall.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == nil || ends(sig) && s.ended == forceAfter {
		return false
	}
	if ends(sig) {
		s.ended++
	}
	select {
	case s.relay <- sig:
	default: // nobody has read those that came before
	}
	return true
}

// relayed calls fn with the signals that come meanwhile. They do not end ctx then, but
// for an ending one that comes for the third time.
func (s *signals) relayed(fn func(<-chan syscall.Signal) error) error {
	ch := make(chan syscall.Signal, 16)
	s.relayTo(ch)
	s.notify(relayable())
	defer func() {
		s.relayTo(nil)
		signal.Reset(relayable()...)
	}()
	return fn(ch)
}

func (s *signals) relayTo(ch chan<- syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay, s.ended = ch, 0
}

// relayable are the signals that a process can be sent in this one's place, besides those
// that end: all but those of job control, of faults and of this process's own runtime.
func relayable() []os.Signal {
	out := []os.Signal{syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}
	const firstRT, lastRT = 34, 64 // two below are libc's
	for n := firstRT; n <= lastRT; n++ {
		out = append(out, syscall.Signal(n))
	}
	return out
}
