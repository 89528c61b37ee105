package executor

import (
	"context"
	"runtime"
	"sync"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// Options configure a Solver.
type Options struct {
	// Cache finds results of earlier runs. Required.
	Cache cache.Cache
	// Locker keeps two processes from running one step twice. Required.
	Locker cache.Locker
	// Worker does the steps. Required.
	Worker Worker
	// Observer receives the events of all Solves; nil: nobody does.
	Observer Observer
	// Parallelism is how many processes (Exec steps) run at once; 0 means one
	// for each CPU.
	Parallelism int
	// Verify runs steps although the cache knows their result, and warns if the
	// content differs. The cached result is used all the same.
	Verify bool
}

// Solver makes the results of graphs of steps. It is safe for concurrent use:
// Solves that have steps in common share their work through the Locker and the
// Cache, and each is ended by its own context only.
type Solver struct {
	opts  Options
	procs chan struct{} // one token for each running Exec
	files chan struct{} // one token for each running step of another kind

	mu      sync.Mutex // guards results
	results map[dag.ID]Result
}

// New returns a Solver.
func New(opts Options) *Solver {
	n := opts.Parallelism
	if n <= 0 {
		n = runtime.NumCPU()
	}
	if opts.Observer == nil {
		opts.Observer = func(Event) {}
	}
	return &Solver{
		opts:    opts,
		procs:   make(chan struct{}, n),
		files:   make(chan struct{}, 2*runtime.NumCPU()),
		results: map[dag.ID]Result{},
	}
}

// Solve makes the results of the given edges, in their order. The zero Edge
// (scratch) gives the zero Result. The first step that fails ends the others; the
// error is then a *StepError. When ctx ends, the error is context.Cause(ctx).
//
// A step with Meta.NoCache always runs. The steps after it are looked up by the
// content that it made this time, so they run only if it differs.
//
// Every step that the roots reach gets exactly one last event. A step whose result
// nobody needs, for a later step is cached, ends as EventCached too.
func (s *Solver) Solve(ctx context.Context, roots []dag.Edge) ([]Result, error) {
	return s.solve(ctx, roots)
}

// Result returns what a step made, or was found to have made, in a Solve before.
// It is false for a step that no Solve needed to know.
func (s *Solver) Result(step *dag.Step) (Result, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.results[step.ID()]
	return r, ok
}

func (s *Solver) setResult(step *dag.Step, r Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[step.ID()] = r
}

func (s *Solver) emit(e Event) {
	e.Time = time.Now()
	s.opts.Observer(e)
}
