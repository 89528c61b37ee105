package cli

import (
	"context"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// ahead sends layers to a registry while later steps are still running, so that
// after the last step only its own layer is left to send.
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

// aheadTarget is one name that will be pushed.
type aheadTarget struct {
	ref  string
	opts registry.PushOptions
}

// aheadTargets are the repositories that will get the image, one name of each.
func (j *job) aheadTargets() []aheadTarget {
	var out []aheadTarget
	seen := map[string]bool{}
	for _, o := range j.outputs {
		if !o.push || j.flags.lang.squash || o.epoch != nil {
			continue
		}
		for _, n := range normalised(append(append([]string(nil), j.flags.tags...), o.names...)) {
			ref, err := registry.ParseReference(n)
			key := ref.Repository() + " " + o.compression.String()
			if err == nil && !seen[key] {
				seen[key] = true
				out = append(out, aheadTarget{n, registry.PushOptions{Insecure: o.insecure, Compression: o.compression}})
			}
		}
	}
	return out
}

// startAhead begins to send what observe tells it. It is nil, which observes and
// stops as well, if nothing will be pushed.
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
	return a.job.engine.client.TapLayer(a.ctx, a.to[0].ref, below, a.to[0].opts)
}

func (a *ahead) run() {
	for step := range a.queue {
		res, ok := a.job.solver.Result(step)
		if !ok || a.ctx.Err() != nil {
			continue
		}
		var wg sync.WaitGroup
		for _, to := range a.to {
			wg.Go(func() {
				// An error is not lost: the push at the end meets it again and reports it.
				_ = a.job.engine.client.PushLayers(a.ctx, to.ref, res.Stack, to.opts)
			})
		}
		wg.Wait()
	}
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
