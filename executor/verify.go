package executor

import (
	"context"
	"fmt"
	"strings"

	"layered.build/builder/snapshot"
)

// Comparer is implemented by workers that can tell how two results of a step differ.
type Comparer interface {
	// Differences says in words, a line each, what of the content of two stacks differs.
	Differences(ctx context.Context, was, is snapshot.Stack) ([]string, error)
}

// verify runs a node that has a record and compares. The record stays in force,
// so that what follows is what an ordinary build would make.
func (r *run) verify(ctx context.Context, n *node) error {
	n.lookup = &Lookup{Key: n.key, Reasons: []string{"verifying the cached result"}}
	out, _, err := r.work(ctx, n)
	if err != nil {
		return err
	}
	for i, was := range n.cached {
		got := out.Results[i].Stack
		if got.Content() == was.Stack.Content() {
			continue
		}
		r.differs(n)
		r.observe(Event{Type: EventWarning, Step: n.step, Data: []byte(r.differences(ctx, was.Stack, got))})
	}
	return r.done(n, &Outcome{Results: n.cached, Usage: out.Usage}, n.record.Findings)
}

// differences says how another result differs from the cached one.
func (r *run) differences(ctx context.Context, was, is snapshot.Stack) string {
	const most = 20
	text := fmt.Sprintf("the cached result has content %s, running the step again gave %s", was.Content(), is.Content())
	c, ok := r.opts.Worker.(Comparer)
	if !ok {
		return text
	}
	lines, err := c.Differences(ctx, was, is)
	if err != nil {
		return text + fmt.Sprintf("; what differs is not known: %v", err)
	}
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(append([]string{text}, lines...), "\n  ")
}

// differs notes a step whose cached result is not what it makes.
func (s *Solver) differs(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.differing = append(s.differing, n.step.Meta.Name)
}

// Differing names the steps that made something else than their cached results have, if
// Options.Verify asked for that.
func (s *Solver) Differing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.differing...)
}
