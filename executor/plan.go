package executor

import (
	"context"
	"fmt"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// Verdict is what a dry run says of a step.
type Verdict string

// The verdicts.
const (
	VerdictCached   Verdict = "cached"    // a record exists under the definition key
	VerdictRun      Verdict = "run"       // no record, and an input or the step itself is new
	VerdictMaybe    Verdict = "maybe run" // an input has to be made first; equal content would still hit
	VerdictUnneeded Verdict = "unneeded"  // only steps that are cached would read its result
	VerdictSource   Verdict = "source"    // named by a digest, or read anew each time
)

// StepPlan is what a dry run says of one step.
type StepPlan struct {
	Step    *dag.Step
	Verdict Verdict
	// Key is the definition key, Parts are its components.
	Key   cache.Key
	Parts []cache.Part
	// Reason says in words why.
	Reason string
	// Changed are the components that differ from the step's latest record.
	Changed []Change
}

// Change is one component of a key that differs. Before or After is "" where the
// component did not exist.
type Change struct {
	Name, Before, After string
}

// Plan says for every step that the roots reach, inputs first, whether a Solve
// would run it, and why. Nothing is run or fetched; contexts are read.
func (s *Solver) Plan(ctx context.Context, roots []dag.Edge) ([]StepPlan, error) {
	r, err := s.newRun(roots, func(Event) {})
	if err != nil {
		return nil, err
	}
	if err := r.lookupAll(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	r.fitAll()
	for _, n := range r.nodes {
		if err := r.lookupContent(ctx, n); err != nil {
			return nil, err
		}
	}
	r.mark(false)
	plans := make([]StepPlan, len(r.nodes))
	for i, n := range r.nodes {
		plans[i] = r.judge(ctx, n)
	}
	return plans, nil
}

// lookupContent tries a node that missed by the content of its inputs, if that is
// known without reading layers.
func (r *run) lookupContent(ctx context.Context, n *node) error {
	if n.record != nil {
		n.results = n.cached
		close(n.done)
		return nil
	}
	if n.noCache || n.isEager() {
		return nil
	}
	for i, in := range n.inputs {
		if in == nil || in.isLocal() {
			continue
		}
		if _, selective := n.step.Selector(i); selective || !in.known() {
			return nil
		}
	}
	key, _, err := r.resultKey(ctx, n)
	if err != nil {
		return err
	}
	rec, err := r.get(ctx, n, key)
	if err != nil {
		return err
	}
	if res, ok := n.fit(rec); ok {
		n.record, n.results = rec, res
		close(n.done)
	}
	return nil
}

// known reports whether the node's result is known.
func (n *node) known() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

func (r *run) judge(ctx context.Context, n *node) StepPlan {
	p := StepPlan{Step: n.step, Key: n.key, Parts: n.parts}
	switch {
	case n.isEager():
		p.Verdict = VerdictSource
	case n.record != nil && n.record.Key == n.key:
		p.Verdict, p.Reason = VerdictCached, "same definition"
	case n.record != nil:
		p.Verdict, p.Reason = VerdictCached, "inputs with the same content"
	case !n.needed:
		p.Verdict, p.Reason = VerdictUnneeded, "a later step is cached"
	case n.noCache:
		p.Verdict, p.Reason = VerdictRun, "told to run again"
	default:
		p.Verdict = VerdictRun
		missed := r.whyMissed(ctx, n)
		p.Changed, p.Reason = missed.Changes, missed.Reason()
		for i, in := range n.inputs {
			if in != nil && !in.known() {
				p.Verdict = VerdictMaybe
				p.Reason = fmt.Sprintf("%s has to run first", inputName(n.step, i))
				break
			}
		}
	}
	return p
}

// inputName names an input for people.
func inputName(step *dag.Step, i int) string {
	if i < len(step.Meta.InputNames) && step.Meta.InputNames[i] != "" {
		return step.Meta.InputNames[i]
	}
	if name := step.Inputs[i].Step.Meta.Name; name != "" {
		return name
	}
	return fmt.Sprintf("input %d", i)
}
