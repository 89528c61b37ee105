package executor

import (
	"context"

	"layered.build/builder/planner/dag"
)

// reasonMade is why a step is not done again within one build.
const reasonMade = "made by this build before"

// flight is one step that one of a build's Solves is making; the others wait for it.
type flight struct {
	done    chan struct{} // closed when all of this is known:
	results []Result
	err     error
	// given up: the Solve that made it was ended, so that another has to begin anew.
	givenUp bool
}

// once has the node's step made by one of all Solves of the build at a time, and at most
// once: make settles the node.
func (r *run) once(ctx context.Context, n *node, make func() error) error {
	id := n.step.ID()
	for {
		f, mine := r.board(id)
		if mine {
			f.err = make()
			f.givenUp = f.err != nil && ctx.Err() != nil
			f.results = n.results
			r.land(id, f)
			return f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch {
		case f.err == nil:
			r.take(n, f.results, reasonMade)
			return nil
		case !f.givenUp:
			return f.err
		}
	}
}

// board returns the flight of a step, and whether the caller is the one to make it. That of
// a step which is known is over. Both are looked at together: a flight may land meanwhile.
func (s *Solver) board(id dag.ID) (f *flight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.flights[id]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	if res, ok := s.results[id]; ok {
		f.results = res
		close(f.done)
		return f, false
	}
	s.flights[id] = f
	return f, true
}

// land ends a flight.
func (s *Solver) land(id dag.ID, f *flight) {
	s.mu.Lock()
	delete(s.flights, id)
	s.mu.Unlock()
	close(f.done)
}

// made returns the results of a step that this build knows.
func (s *Solver) made(id dag.ID) ([]Result, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res, ok := s.results[id]
	return res, ok
}
