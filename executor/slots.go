package executor

import (
	"context"
	"runtime"

	"layered.build/builder/planner/dag"
)

// Slots bound how much the builds of a process do at once. All of its Solvers share one.
type Slots struct {
	procs chan struct{} // one token for each running process
	files chan struct{} // one token for each running step of another kind
}

// NewSlots returns slots for so many processes (Exec steps) at once; 0 means one for each
// CPU.
func NewSlots(processes int) *Slots {
	if processes <= 0 {
		processes = runtime.NumCPU()
	}
	return &Slots{procs: make(chan struct{}, processes), files: make(chan struct{}, 2*runtime.NumCPU())}
}

// take waits for room for a step.
func (s *Slots) take(ctx context.Context, op dag.Op) (free func(), err error) {
	room := s.files
	if _, ok := op.(*dag.Exec); ok {
		room = s.procs
	}
	return token(ctx, room)
}

// token takes one place in a channel; a nil channel has room for all.
func token(ctx context.Context, room chan struct{}) (free func(), err error) {
	if room == nil {
		return func() {}, nil
	}
	select {
	case room <- struct{}{}:
		return func() { <-room }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
