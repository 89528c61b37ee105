package build

import (
	"context"
	"slices"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/snapshot"
)

// ahead compresses layers, and sends them to registries, while later steps are still
// running, so that after the last step only its own layer is left.
type ahead struct {
	ctx    context.Context
	client *registry.Client
	to     []export.Target
	wants  map[*dag.Step]bool // the steps whose layers the image will have
	// last are those of them that no other step waits for.
	last  map[*dag.Step]bool
	queue chan *dag.Step
	wg    sync.WaitGroup
}

// newAhead returns what will send what observe tells it. It is nil, which does nothing, if
// nothing will be pushed or compressed.
func (j *Job) newAhead(ctx context.Context, p *Plan) *ahead {
	if j.req.Squash {
		return nil
	}
	to := export.Targets(j.req.Exporters, j.req.Names)
	if len(to) == 0 {
		return nil
	}
	a := &ahead{ctx: ctx, client: j.e.Client, to: to, wants: map[*dag.Step]bool{}, last: map[*dag.Step]bool{}}
	for _, t := range p.Targets {
		if t.Platform.OS == "windows" { // its layers are changed at the end
			continue
		}
		for _, in := range t.Instructions {
			if in.Step != nil {
				a.wants[in.Step] = true
			}
		}
	}
	a.findLast(p.Graph)
	a.queue = make(chan *dag.Step, len(a.wants)) // a step is done once: no send blocks
	return a
}

// start begins to send what a solver makes.
func (a *ahead) start(s *executor.Solver) {
	if a != nil {
		a.wg.Go(func() { a.run(s) })
	}
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
	return a.to[0].Tap(a.ctx, a.client, below)
}

func (a *ahead) run(s *executor.Solver) {
	for step := range a.queue {
		res, ok := s.Result(dag.Edge{Step: step})
		if !ok || a.ctx.Err() != nil || slices.ContainsFunc(res.Stack, snapshot.Layer.Unnamed) {
			continue // what has no name yet is sent at the end
		}
		var wg sync.WaitGroup
		for _, to := range a.to {
			wg.Go(func() {
				// An error is not lost: the output at the end meets it again and reports it.
				_ = to.Prepare(a.ctx, a.client, res.Stack)
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
