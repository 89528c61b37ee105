package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// node is one step within one Solve.
type node struct {
	step   *dag.Step
	names  []string // cache.Record.Names
	inputs []*node  // nil for scratch
	// fresh says that the definition key must not be looked up: the step, or one
	// before it, was told to run again.
	fresh   bool
	noCache bool
	maxAge  time.Duration // of a record; 0: any

	keyed  chan struct{}  // closed when all of this is known:
	key    cache.Key      // "" for a local source
	parts  []cache.Part   // of key
	locals []*cache.Input // by input: what is read of a local source; else nil
	record *cache.Record  // found under key; nil if none was
	tooOld *cache.Record  // what was found instead, but older than maxAge
	cached []Result       // of record; see fit
	again  bool           // record and cached are what this build made before
	lookup *Lookup        // why it runs
	misfit bool           // there was a record, but not for the base as it is now

	needed  bool // its result is needed
	mounted bool // a process that has to run mounts it

	done    chan struct{} // closed when results are known
	results []Result      // by output

	mu    sync.Mutex // guards final
	final bool       // the last event is out
}

// isLocal reports whether the node has no name but its content.
func (n *node) isLocal() bool {
	src, ok := n.step.Op.(*dag.Source)
	return ok && src.Local != nil
}

// isEager reports whether the node is a source that is opened before anything is
// looked up: local files, for their content is a key, images, for a record may
// name layers that are only fetched when they are needed, and remote files, whose
// name is only known by asking.
func (n *node) isEager() bool {
	src, ok := n.step.Op.(*dag.Source)
	return ok && (src.Local != nil || src.Image != nil || src.OCILayout != nil || n.isRemote())
}

// isRemote reports whether the node is named by what its source is now.
func (n *node) isRemote() bool {
	src, ok := n.step.Op.(*dag.Source)
	return ok && (src.Git != nil || src.HTTP != nil)
}

// run is one Solve, or one Plan.
type run struct {
	*Solver
	observe Observer
	nodes   []*node // inputs first
	edges   []dag.Edge
	roots   []*node // of edges; nil for scratch
}

// newRun lays out the nodes. Steps that are equal are one node; those that are not valid, or
// not allowed, are refused, whoever made the graph.
func (s *Solver) newRun(roots []dag.Edge, obs Observer) (*run, error) {
	r := &run{Solver: s, observe: obs, edges: roots}
	byID := map[dag.ID]*node{}
	find := func(e dag.Edge) (*node, error) {
		if e.IsScratch() {
			return nil, nil
		}
		if e.Output < 0 || e.Output >= e.Step.Outputs() {
			return nil, fmt.Errorf("%s: output %d does not exist", e.Step.Meta.Name, e.Output)
		}
		return byID[e.Step.ID()], nil
	}
	for _, step := range dag.NewGraph(roots...).Steps {
		if err := step.Validate(); err != nil {
			return nil, fmt.Errorf("step %q: %w", step.Meta.Name, err)
		}
		if err := s.opts.Worker.Allow(step); err != nil {
			return nil, &StepError{Step: step, Err: err}
		}
		n, ok := byID[step.ID()]
		if !ok {
			n = &node{step: step, names: names(step), keyed: make(chan struct{}), done: make(chan struct{})}
			byID[step.ID()] = n
			r.nodes = append(r.nodes, n)
			for _, e := range step.Inputs {
				in, err := find(e)
				if err != nil {
					return nil, err
				}
				n.inputs = append(n.inputs, in)
			}
		}
		n.noCache = n.noCache || step.Meta.NoCache || step.Unkeyed()
		n.limitAge(step.Meta.MaxAge)
	}
	for _, n := range r.nodes {
		n.fresh = n.noCache
	}
	for _, e := range roots {
		n, err := find(e)
		if err != nil {
			return nil, err
		}
		r.roots = append(r.roots, n)
	}
	return r, nil
}

func (s *Solver) solve(ctx context.Context, roots []dag.Edge) ([]Result, error) {
	r, err := s.newRun(roots, s.emit)
	if err != nil {
		return nil, err
	}
	err = r.lookupAll(ctx)
	if err == nil {
		r.fitAll()
		r.mark(s.opts.Verify)
		err = r.runAll(ctx)
	}
	if err == nil {
		r.deriveAll()
	}
	r.finishAll(err)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	results := make([]Result, len(r.roots))
	for i, n := range r.roots {
		if n != nil {
			results[i] = n.results[r.edges[i].Output]
		}
	}
	return results, nil
}

// lookupAll computes all definition keys, leaves first, and looks them up.
func (r *run) lookupAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range r.nodes {
		g.Go(func() error {
			for _, in := range n.inputs {
				if err := await(ctx, in, func(in *node) chan struct{} { return in.keyed }); err != nil {
					return err
				}
			}
			if err := r.lookup(ctx, n); err != nil {
				return r.fail(ctx, n, err)
			}
			close(n.keyed)
			return nil
		})
	}
	return g.Wait()
}

// await waits until a node has got so far.
func await(ctx context.Context, n *node, stage func(*node) chan struct{}) error {
	if n == nil {
		return nil
	}
	select {
	case <-stage(n):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lookup finds out a node's definition key and the record that it names.
func (r *run) lookup(ctx context.Context, n *node) error {
	n.inherit()
	if n.isEager() {
		if err := r.open(ctx, n); err != nil {
			return err
		}
	}
	if n.isLocal() {
		return nil
	}
	inputs := make([]cache.Input, len(n.inputs))
	n.locals = make([]*cache.Input, len(n.inputs))
	for i, in := range n.inputs {
		switch {
		case in == nil:
		case in.isLocal():
			d, details, err := r.opts.Worker.InputDigest(ctx, n.step, i, n.input(i))
			if err != nil {
				return err
			}
			n.locals[i] = &cache.Input{Content: d, Details: details}
			inputs[i] = *n.locals[i]
		default:
			inputs[i] = cache.Input{Definition: in.key, Output: n.step.Inputs[i].Output, Details: imageDetail(in)}
		}
	}
	if n.isRemote() && n.results[0].Remote != nil {
		remote := n.results[0].Remote
		inputs = append(inputs, cache.Input{Content: remote.Name, Details: remote.Details})
	}
	var err error
	if n.key, n.parts, err = cache.DefinitionKey(n.step, inputs); err != nil {
		return err
	}
	if n.isEager() {
		return nil
	}
	if res, ok := r.made(n.step.ID()); ok {
		n.record, n.cached, n.again = recordOf(n.key, res), res, true
		return nil
	}
	if n.fresh {
		return nil
	}
	if n.record, err = r.get(ctx, n, n.key); err != nil || n.record == nil || len(n.record.Names) > 0 {
		return err
	}
	return r.recall(ctx, n, n.record) // another machine has made it
}

// input is the result that a node reads as one of its inputs, which are done.
func (n *node) input(i int) Result {
	if n.inputs[i] == nil {
		return Result{}
	}
	return n.inputs[i].results[n.step.Inputs[i].Output]
}

// recordOf is a record of what this build made.
func recordOf(key cache.Key, res []Result) *cache.Record {
	rec := &cache.Record{Key: key}
	for _, r := range res {
		rec.Outputs = append(rec.Outputs, r.Stack)
	}
	return rec
}

// get looks a key up; a miss is nil.
func (r *run) get(ctx context.Context, n *node, key cache.Key) (*cache.Record, error) {
	rec, tooOld, err := r.find(ctx, n, key)
	switch {
	case errors.Is(err, cache.ErrMiss):
		n.tooOld = tooOld
		return nil, nil
	case err != nil:
		return nil, err
	case len(rec.Outputs) != n.step.Outputs(): // made by a version that knew others
		return nil, nil
	}
	return rec, nil
}

// open runs a source whose result is only a handle.
func (r *run) open(ctx context.Context, n *node) error {
	return r.once(ctx, n, func() error {
		r.observe(Event{Type: EventStarted, Step: n.step})
		out, err := r.opts.Worker.Run(ctx, &Job{Step: n.step, Observer: r.stepObserver(n)})
		if err != nil {
			return err
		}
		r.settle(n, out.Results)
		r.finish(n, Event{Type: EventDone})
		return nil
	})
}

// mark finds out which results are needed, roots first: those of the roots, and
// the inputs of all that has to run.
func (r *run) mark(verify bool) {
	for _, n := range r.roots {
		if n != nil {
			n.needed = true
		}
	}
	for _, n := range slices.Backward(r.nodes) {
		if !n.needed || n.record != nil && (!verify || n.again) {
			continue
		}
		for i, in := range n.inputs {
			if in == nil {
				continue
			}
			in.needed = true
			in.mounted = in.mounted || passesMount(n, i)
		}
	}
}

// passesMount reports whether a process will see the layers of an input mounted.
func passesMount(n *node, input int) bool {
	switch op := n.step.Op.(type) {
	case *dag.Exec:
		return true
	case *dag.File:
		return n.mounted && op.Base && input == 0
	case *dag.Merge, *dag.Diff:
		return n.mounted
	}
	return false
}

// finishAll gives a last event to every step that has none.
func (r *run) finishAll(err error) {
	for _, n := range r.nodes {
		switch {
		case err != nil:
			r.finish(n, Event{Type: EventCanceled})
		case !n.needed:
			r.finish(n, Event{Type: EventCached, Reason: "a later step is cached"})
		}
	}
}

// finish emits a node's last event, once.
func (r *run) finish(n *node, e Event) {
	n.mu.Lock()
	was := n.final
	n.final = true
	n.mu.Unlock()
	if !was {
		e.Step = n.step
		r.observe(e)
	}
}

// fail ends a node with an error, unless it was only carried along when another
// one failed or the Solve was cancelled.
func (r *run) fail(ctx context.Context, n *node, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed := StepError{Err: err}
	var se *StepError
	if errors.As(err, &se) { // which another Solve may have, too
		failed = *se
	}
	failed.Step = n.step
	r.finish(n, Event{Type: EventFailed, Err: &failed, Usage: failed.Usage})
	return &failed
}

// stepObserver is the Observer for what a worker tells of a step.
func (r *run) stepObserver(n *node) Observer {
	return func(e Event) {
		e.Step, e.Time = n.step, time.Now()
		r.observe(e)
	}
}
