package executor

import (
	"context"
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
	// Observer receives the events of the build; nil: nobody does.
	Observer Observer
	// Slots bound what is done at once, together with other builds; nil: this build
	// has its own, one process for each CPU.
	Slots *Slots
	// Parallelism bounds how many processes (Exec steps) of this build run at once,
	// within Slots; 0 is no further bound.
	Parallelism int
	// Project names what is built: what a step is compared with to tell why it runs.
	Project string
	// Verify runs steps although the cache knows their result, and warns if the
	// content differs. The cached result is used all the same.
	Verify bool
}

// Solver makes the results of the graphs of one build: what it has made or found is known
// to it by the step's ID, so that no step is made twice, however many Solves ask for it. A
// local source is named, not described, by its step, so that builds with contexts of their
// own need Solvers of their own.
//
// It is safe for concurrent use: Solves share their work, and each is ended by its own
// context only. Solvers share their work through the Locker and the Cache.
type Solver struct {
	opts Options
	own  chan struct{} // one token for each running process; nil: no bound of its own

	mu      sync.Mutex // guards what follows
	results map[dag.ID][]Result
	flights map[dag.ID]*flight
	// differing are the names of steps; see Differing.
	differing []string
}

// New returns a Solver for one build.
func New(opts Options) *Solver {
	if opts.Observer == nil {
		opts.Observer = func(Event) {}
	}
	if opts.Slots == nil {
		opts.Slots = NewSlots(opts.Parallelism)
	}
	s := &Solver{opts: opts, results: map[dag.ID][]Result{}, flights: map[dag.ID]*flight{}}
	if opts.Parallelism > 0 {
		s.own = make(chan struct{}, opts.Parallelism)
	}
	return s
}

// Solve makes the results of the given edges, in their order. The zero Edge
// (scratch) gives the zero Result. The first step that fails ends the others; the
// error is then a *StepError. When ctx ends, the error is context.Cause(ctx).
//
// Steps that are not valid (dag.Step.Validate), or that the worker does not allow, are
// refused before anything is looked up or done, and without events.
//
// A step with Meta.NoCache runs unless the build knows its result already. The steps after
// it are looked up by the content that it made this time, so they run only if it differs.
// One that reads what has no key (dag.Step.Unkeyed) is treated like it.
//
// Every step that the roots reach gets exactly one last event. A step whose result
// nobody needs, for a later step is cached, ends as EventCached too.
func (s *Solver) Solve(ctx context.Context, roots []dag.Edge) ([]Result, error) {
	return s.solve(ctx, roots)
}

// Result returns what a step made, or was found to have made, in a Solve before. It is
// false for a step that no Solve needed to know.
func (s *Solver) Result(e dag.Edge) (Result, bool) {
	if e.IsScratch() {
		return Result{}, true
	}
	res, ok := s.made(e.Step.ID())
	if !ok || e.Output < 0 || e.Output >= len(res) {
		return Result{}, false
	}
	return res[e.Output], true
}

func (s *Solver) setResults(step *dag.Step, res []Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[step.ID()] = res
}

func (s *Solver) emit(e Event) {
	e.Time = time.Now()
	s.opts.Observer(e)
}
