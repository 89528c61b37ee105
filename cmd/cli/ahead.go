package cli

import (
	"context"
	"fmt"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// ahead compresses layers, and sends them to registries, while later steps are still
// running, so that after the last step only its own layer is left.
type ahead struct {
	ctx   context.Context
	job   *job
	to    []aheadTarget
	wants map[*dag.Step]bool // the steps whose layers the image will have
	// last are those of them that no other step waits for.
	last  map[*dag.Step]bool
	queue chan *dag.Step
	wg    sync.WaitGroup
}

// aheadTarget is one name that will be pushed, or a form that the layers will have in an
// archive or another engine.
type aheadTarget struct {
	ref  string // "": they are only compressed
	opts registry.PushOptions
	form registry.Form
	// onlyNew leaves layers alone that have been compressed before: who gets the
	// image may have them.
	onlyNew bool
}

// aheadTargets are the repositories that will get the image, one name of each, and then
// the forms that other outputs need.
func (j *job) aheadTargets() []aheadTarget {
	var out, local []aheadTarget
	seen := map[string]bool{}
	add := func(to *[]aheadTarget, key string, t aheadTarget) {
		if !seen[key] {
			seen[key] = true
			*to = append(*to, t)
		}
	}
	for _, o := range j.outputs {
		if j.flags.lang.squash || o.epoch != nil {
			continue
		}
		if o.compressed() {
			t := aheadTarget{form: registry.Form{Compression: o.compression, Foreign: o.foreign}, onlyNew: o.kind == outLoad}
			add(&local, fmt.Sprintf("%s %t %t", o.compression, o.foreign, t.onlyNew), t)
		}
		if !o.push {
			continue
		}
		for _, n := range normalised(append(append([]string(nil), j.flags.tags...), o.names...)) {
			if ref, err := registry.ParseReference(n); err == nil {
				add(&out, ref.Repository()+" "+o.compression.String(), aheadTarget{ref: n, opts: registry.PushOptions{Insecure: o.insecure, Compression: o.compression}})
			}
		}
	}
	return append(out, local...)
}

// compressed reports whether layers are compressed on this machine for an output that is
// not pushed.
func (o *output) compressed() bool {
	switch o.kind {
	case outOCI:
		return true
	case outDocker:
		return o.layout || !o.usualForm()
	case outLoad:
		return o.engine == engineContainerd
	case outImage:
		return !o.push && !o.usualForm()
	}
	return false
}

// startAhead begins to send what observe tells it. It is nil, which observes and
// stops as well, if nothing will be pushed or compressed.
func (j *job) startAhead(ctx context.Context) *ahead {
	to := j.aheadTargets()
	if len(to) == 0 {
		return nil
	}
	a := &ahead{ctx: ctx, job: j, to: to, wants: map[*dag.Step]bool{}, last: map[*dag.Step]bool{}}
	for _, t := range j.plan.Targets {
		if t.Platform.OS == "windows" { // its layers are changed at the end
			continue
		}
		for _, in := range t.Instructions {
			if in.Step != nil {
				a.wants[in.Step] = true
			}
		}
	}
	a.findLast(j.plan.Graph)
	a.queue = make(chan *dag.Step, len(a.wants)) // a step is done once: no send blocks
	a.wg.Go(a.run)
	return a
}

// findLast finds the steps whose layers may be compressed while they are made. Where a
// step waits for the layer, that would make it wait for the compression as well.
func (a *ahead) findLast(g *dag.Graph) {
	for s := range a.wants {
		a.last[s] = true
	}
	for _, s := range g.Steps {
		for _, in := range s.Inputs {
			delete(a.last, in.Step)
		}
	}
}

// tap is what receives the layer of a step while it is made, nil if nothing does.
func (a *ahead) tap(step *dag.Step, below snapshot.Stack) snapshot.Tap {
	if a == nil || !a.last[step] {
		return nil
	}
	opts := a.to[0].opts
	if a.to[0].ref == "" {
		opts.Compression = a.to[0].form.Compression
	}
	return a.job.engine.client.TapLayer(a.ctx, a.to[0].ref, below, opts)
}

func (a *ahead) run() {
	for step := range a.queue {
		res, ok := a.job.solver.Result(dag.Edge{Step: step})
		if !ok || a.ctx.Err() != nil {
			continue
		}
		var wg sync.WaitGroup
		for _, to := range a.to {
			wg.Go(func() {
				// An error is not lost: the output at the end meets it again and reports it.
				_ = a.job.engine.doAhead(a.ctx, to, res.Stack)
			})
		}
		wg.Wait()
	}
}

func (e *engine) doAhead(ctx context.Context, to aheadTarget, stack snapshot.Stack) error {
	if to.ref == "" {
		return e.client.CompressLayers(ctx, stack, to.form, to.onlyNew)
	}
	return e.client.PushLayers(ctx, to.ref, stack, to.opts)
}

// observe is an executor.Observer.
func (a *ahead) observe(ev executor.Event) {
	if a != nil && ev.Type == executor.EventDone && ev.Step != nil && a.wants[ev.Step] {
		select {
		case a.queue <- ev.Step:
		default: // verified and done again: what is queued suffices
		}
	}
}

// stop waits until what was begun is sent. No observe may follow.
func (a *ahead) stop() {
	if a == nil {
		return
	}
	close(a.queue)
	a.wg.Wait()
}
