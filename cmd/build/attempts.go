package build

import (
	"errors"
	"sync"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// maxAttempts is how often a build begins anew because files change while they are read.
const maxAttempts = 3

// attempts shows the attempts of a build as one: a step that a later one makes again has
// one last event.
type attempts struct {
	tell  executor.Observer
	graph *dag.Graph
	// doubts, unless nil, says of an error that all may begin anew for it.
	doubts func(error) bool

	mu    sync.Mutex // guards all below
	count int
	done  map[dag.ID]bool // steps that have ended well
	// held are the last events of an attempt that may be tried again, from the first
	// that failed for that.
	held []executor.Event
}

func newAttempts(tell executor.Observer, g *dag.Graph) *attempts {
	return &attempts{tell: tell, graph: g, count: 1, done: map[dag.ID]bool{}}
}

// observe is the executor.Observer of all attempts.
func (a *attempts) observe(ev executor.Event) {
	if a.pass(ev) {
		a.tell(ev)
	}
}

// pass reports whether an event is shown, now.
func (a *attempts) pass(ev executor.Event) bool {
	if ev.Step == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := ev.Step.ID()
	switch ev.Type {
	case executor.EventDone, executor.EventCached:
		was := a.done[id]
		a.done[id] = true
		return !was
	case executor.EventFailed, executor.EventCanceled:
		if len(a.held) > 0 || errors.Is(ev.Err, snapshot.ErrChanged) && a.count < maxAttempts || a.doubts != nil && a.doubts(ev.Err) {
			a.held = append(a.held, ev)
			return false
		}
	}
	switch ev.Type {
	case executor.EventStarted, executor.EventCanceled:
		return !a.done[id]
	}
	return true
}

// again reports whether a build that ended with an error is tried again, and says so.
func (a *attempts) again(err error) bool {
	a.mu.Lock()
	if !errors.Is(err, snapshot.ErrChanged) || a.count == maxAttempts {
		a.mu.Unlock()
		return false
	}
	a.count++
	a.mu.Unlock()
	a.anew()
	a.tell(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: []byte(err.Error() + ": the build begins anew with the file as it is now")})
	return true
}

// anew begins another attempt. Steps that were told to run, and did, need not run another
// time, unless what they made may depend on the files.
func (a *attempts) anew() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = nil
	reads := map[*dag.Step]bool{}
	for _, s := range a.graph.Steps { // inputs come first
		src, ok := s.Op.(*dag.Source)
		reads[s] = ok && src.Local != nil
		for _, in := range s.Inputs {
			reads[s] = reads[s] || reads[in.Step]
		}
		if a.done[s.ID()] && !reads[s] {
			s.Meta.NoCache = false
		}
	}
}

// over shows what was held back: nothing is tried again.
func (a *attempts) over() {
	a.mu.Lock()
	held := a.held
	a.held = nil
	a.mu.Unlock()
	for _, ev := range held {
		a.tell(ev)
	}
}
