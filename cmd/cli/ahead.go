package cli

import (
	"context"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
)

// ahead sends layers to a registry while later steps are still running, so that
// after the last step only its own layer is left to send.
type ahead struct {
	job   *job
	ref   string
	wants map[*dag.Step]bool // the steps whose layers the image will have
	queue chan *dag.Step
	wg    sync.WaitGroup
}

// startAhead begins to send what observe tells it. It is nil, which observes and
// stops as well, if nothing will be pushed.
func (j *job) startAhead(ctx context.Context) *ahead {
	ref := ""
	for _, o := range j.outputs {
		names := normalised(append(append([]string(nil), j.flags.tags...), o.names...))
		if o.push && o.usualForm() && !o.insecure && !j.flags.lang.squash && len(names) > 0 {
			ref = names[0]
			break
		}
	}
	if ref == "" {
		return nil
	}
	a := &ahead{job: j, ref: ref, wants: map[*dag.Step]bool{}}
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
	a.queue = make(chan *dag.Step, len(a.wants)) // a step is done once: no send blocks
	a.wg.Go(func() { a.run(ctx) })
	return a
}

func (a *ahead) run(ctx context.Context) {
	for step := range a.queue {
		res, ok := a.job.solver.Result(step)
		if !ok || ctx.Err() != nil {
			continue
		}
		// An error is not lost: the push at the end meets it again and reports it.
		_ = a.job.engine.client.PushLayers(ctx, a.ref, res.Stack, registry.PushOptions{})
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
