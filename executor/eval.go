package executor

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// runAll makes the results that are needed. Nodes that hit are done at once, also
// those that nothing needs: their results may be asked for afterwards.
func (r *run) runAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range r.nodes {
		switch {
		case n.isEager():
		case n.again:
			r.take(n, n.cached, reasonMade)
		case n.record != nil && (!n.needed || !r.opts.Verify):
			if err := r.hit(n, n.record, n.cached, "same definition"); err != nil {
				g.Go(func() error { return r.fail(ctx, n, err) })
			}
		case n.needed:
			g.Go(func() error {
				for _, in := range n.inputs {
					if err := await(ctx, in, func(in *node) chan struct{} { return in.done }); err != nil {
						return err
					}
				}
				if err := r.once(ctx, n, func() error { return r.eval(ctx, n) }); err != nil {
					return r.fail(ctx, n, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// hit ends a node with the result that a record of the cache has.
func (r *run) hit(n *node, rec *cache.Record, res []Result, reason string) error {
	if err := r.tell(n, rec.Findings); err != nil {
		return err
	}
	r.take(n, res, reason)
	return nil
}

// take ends a node with a result that was there.
func (r *run) take(n *node, res []Result, reason string) {
	r.settle(n, res)
	r.finish(n, Event{Type: EventCached, Reason: reason, Lookup: &Lookup{Key: n.key}})
}

func (r *run) settle(n *node, res []Result) {
	n.results = res
	r.setResults(n.step, res)
	close(n.done)
}

// eval finds the result of a node by the content of its inputs, or runs it. Only
// one of all processes on this cache does so at a time; the others find the
// record afterwards.
func (r *run) eval(ctx context.Context, n *node) error {
	if n.record != nil {
		return r.verify(ctx, n)
	}
	key, parts, err := r.resultKey(ctx, n)
	if err != nil {
		return err
	}
	if n.noCache {
		n.lookup = &Lookup{Key: n.key, Reasons: []string{"told to run again"}}
		return r.execute(ctx, n, key, parts)
	}
	unlock, err := r.lock(ctx, n, key)
	if err != nil {
		return err
	}
	defer unlock()
	if !n.fresh {
		rec, err := r.get(ctx, n, n.key)
		if err != nil {
			return err
		}
		if res, ok := n.fit(rec); ok {
			return r.hit(n, rec, res, "another build just ran it")
		}
	}
	rec, err := r.get(ctx, n, key)
	if err != nil {
		return err
	}
	res, ok := n.fit(rec)
	if !ok {
		n.lookup = r.why(ctx, n)
		return r.execute(ctx, n, key, parts)
	}
	if r.opts.Verify {
		n.record, n.cached = rec, res
		return r.verify(ctx, n)
	}
	rec.Outputs = recordOf(n.key, res).Outputs
	if err := r.recall(ctx, n, rec); err != nil {
		return err
	}
	return r.hit(n, rec, res, "inputs with the same content")
}

// recall keeps a record as that of the step as it is here, so that later builds can tell
// what has changed since.
func (r *run) recall(ctx context.Context, n *node, rec *cache.Record) error {
	rec.Definition, rec.Parts, rec.Step, rec.Names, rec.Project = n.key, n.parts, n.step.Meta.Name, n.names, r.opts.Project
	return r.opts.Cache.Put(ctx, n.key, rec)
}

// noticeAfter is how long a step waits for another build in silence.
const noticeAfter = time.Second

// lock takes the lock of a key, and says so if another build holds it for long.
func (r *run) lock(ctx context.Context, n *node, key cache.Key) (func(), error) {
	said := make(chan struct{})
	notice := time.AfterFunc(noticeAfter, func() {
		defer close(said)
		r.observe(Event{Type: EventLog, Step: n.step, Stream: 2, Data: []byte("waiting for another build that runs this step\n")})
	})
	unlock, err := r.opts.Locker.Lock(ctx, key)
	if !notice.Stop() {
		<-said
	}
	return unlock, err
}

// resultKey names a node's result by the content of its inputs, which are done.
func (r *run) resultKey(ctx context.Context, n *node) (cache.Key, []cache.Part, error) {
	inputs := make([]cache.Input, len(n.inputs))
	for i, in := range n.inputs {
		switch {
		case in == nil:
		case n.locals[i] != nil:
			inputs[i] = *n.locals[i]
		default:
			d, details, err := r.opts.Worker.InputDigest(ctx, n.step, i, n.input(i))
			if err != nil {
				return "", nil, err
			}
			inputs[i] = cache.Input{Content: d, Details: details}
		}
	}
	return cache.ResultKey(n.step, inputs)
}

// execute runs a node and records its result under both of its keys.
func (r *run) execute(ctx context.Context, n *node, key cache.Key, parts []cache.Part) error {
	out, took, err := r.work(ctx, n)
	if err != nil {
		return err
	}
	if out.Passing {
		return r.done(n, out, out.Findings)
	}
	rec := &cache.Record{
		Definition: n.key,
		Step:       n.step.Meta.Name,
		Names:      n.names,
		Project:    r.opts.Project,
		Created:    time.Now(),
		Duration:   took,
		Outputs:    recordOf(key, out.Results).Outputs,
		Parts:      parts,
		Findings:   out.Findings,
	}
	if err := r.opts.Cache.Put(ctx, key, rec); err != nil {
		return err
	}
	rec.Parts = n.parts
	if err := r.opts.Cache.Put(ctx, n.key, rec); err != nil {
		return err
	}
	return r.done(n, out, out.Findings)
}

// done ends a node that was run.
func (r *run) done(n *node, out *Outcome, found []cache.Finding) error {
	if err := r.tell(n, found); err != nil {
		return err
	}
	r.settle(n, out.Results)
	r.finish(n, Event{Type: EventDone, Usage: out.Usage})
	return nil
}

// work has the worker run a node when there is room for it.
func (r *run) work(ctx context.Context, n *node) (*Outcome, time.Duration, error) {
	if _, ok := n.step.Op.(*dag.Exec); ok {
		free, err := token(ctx, r.own)
		if err != nil {
			return nil, 0, err
		}
		defer free()
	}
	free, err := r.opts.Slots.take(ctx, n.step.Op)
	if err != nil {
		return nil, 0, err
	}
	defer free()
	job := &Job{Step: n.step, Mounted: n.mounted, Observer: r.stepObserver(n)}
	for i := range n.inputs {
		job.Inputs = append(job.Inputs, n.input(i))
	}
	r.observe(Event{Type: EventStarted, Step: n.step, Reason: n.lookup.Reason(), Lookup: n.lookup})
	begin := time.Now()
	out, err := r.opts.Worker.Run(ctx, job)
	if err == nil && len(out.Results) != n.step.Outputs() {
		err = fmt.Errorf("%d results of a step with %d outputs", len(out.Results), n.step.Outputs())
	}
	return out, time.Since(begin), err
}
