package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// built is one target of a build.
type built struct {
	target *planner.Image
	image  *registry.Image
	files  snapshot.Stack // the file system, as local and tar outputs have it
}

// solve makes the results of the targets. The steps of all their instructions
// are asked for, so that each can be recorded as an image even if the cache
// knows the last one.
func (j *job) solve(ctx context.Context) ([]executor.Result, error) {
	var roots []dag.Edge
	for _, t := range j.plan.Targets {
		roots = append(roots, t.Result)
	}
	for _, t := range j.plan.Targets {
		for _, in := range t.Instructions {
			if in.Step != nil {
				roots = append(roots, dag.Edge{Step: in.Step})
			}
		}
	}
	if j.flags.lang.allTargets {
		for _, st := range j.plan.Stages {
			roots = append(roots, st.Result)
		}
	}
	fetch := &fetchTask{task: task{name: "[internal] fetch layers", obs: j.display.Observe}}
	aheadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	j.ahead = j.startAhead(aheadCtx)
	results, err := j.solver.Solve(registry.WithProgress(ctx, fetch.progress), roots)
	if err != nil {
		cancel()
	}
	j.ahead.stop()
	fetch.end(err)
	if err != nil {
		return nil, err
	}
	return results[:len(j.plan.Targets)], nil
}

// assembleInput describes a stage with the results that are known. It is false
// if an instruction's result is not: then only the instructions before it are in.
//
// The records of two steps may name different layers of equal content (a step ran
// again, and the one after it was found in the cache). The stack of the last
// instruction is the one that counts; of the others only the height is taken.
func (j *job) assembleInput(img *planner.Image) (in registry.AssembleInput, complete bool, err error) {
	in = registry.AssembleInput{Config: img.Config, Epoch: j.plan.Epoch}
	if img.Base != nil {
		base, err := j.images.known(img.Base.Ref, img.Base.Digest)
		if err != nil {
			return in, false, err
		}
		in.Base, in.BaseStack, in.BaseV1 = &img.Base.Config, base.stack, base.v1
	}
	in.Stack = in.BaseStack
	var heights []int
	for _, inst := range img.Instructions {
		if inst.Step != nil {
			res, ok := j.solver.Result(dag.Edge{Step: inst.Step})
			if !ok {
				break
			}
			in.Stack = res.Stack
		}
		heights = append(heights, len(in.Stack))
	}
	for i, n := range heights {
		inst := img.Instructions[i]
		if n > len(in.Stack) {
			return in, false, fmt.Errorf("stage %s: %q left %d layers, but the stage has %d", img.Stage, inst.CreatedBy, n, len(in.Stack))
		}
		in.Steps = append(in.Steps, registry.AssembleStep{
			CreatedBy: inst.CreatedBy, Comment: inst.Comment, EmptyLayer: inst.EmptyLayer, Cmd: ran(inst.Step),
			Stack: in.Stack[:n:n], Config: inst.Config,
		})
	}
	return in, len(heights) == len(img.Instructions), nil
}

// clamp gives the layers of a stage above those of its base the times that they
// have under the epoch: the cache may hold them as they were made under another.
func (j *job) clamp(ctx context.Context, in *registry.AssembleInput) error {
	if in.Epoch == nil {
		return nil
	}
	n := len(in.BaseStack)
	if len(in.Stack) < n || !sameLayers(in.Stack[:n], in.BaseStack) {
		return errors.New("the result does not stand on the layers of its base image")
	}
	own, err := j.engine.store.Clamp(ctx, in.BaseStack, in.Stack[n:], *in.Epoch)
	if err != nil {
		return err
	}
	in.Stack = append(slices.Clone(in.BaseStack), own...)
	for i := range in.Steps {
		h := len(in.Steps[i].Stack)
		in.Steps[i].Stack = in.Stack[:h:h]
	}
	return nil
}

// assemble makes the images of the targets under an epoch, which may be nil.
func (j *job) assemble(ctx context.Context, results []executor.Result, epoch *time.Time) ([]built, error) {
	var out []built
	for i, t := range j.plan.Targets {
		in, complete, err := j.assembleInput(t)
		in.Epoch = epoch
		if err == nil && (!complete || !sameLayers(in.Stack, results[i].Stack)) {
			err = fmt.Errorf("stage %s: the results of its instructions are not known", t.Stage)
		}
		if err == nil {
			err = j.clamp(ctx, &in)
		}
		if err == nil {
			err = j.squash(ctx, &in)
		}
		if err != nil {
			return nil, err
		}
		recs, err := registry.V1Records(in)
		if err != nil {
			return nil, err
		}
		files := in.Stack
		if err := j.forWindows(ctx, t, &in); err != nil {
			return nil, err
		}
		img, err := registry.Assemble(in)
		if err != nil {
			return nil, err
		}
		if n := len(recs); n > 0 {
			img.V1 = recs[n-1].ID
		}
		out = append(out, built{target: t, image: img, files: files})
	}
	return out, nil
}

// forWindows gives an image for Windows the layers that Windows wants. What local
// and tar outputs write is as the steps left it.
func (j *job) forWindows(ctx context.Context, t *planner.Image, in *registry.AssembleInput) error {
	if t.Platform.OS != "windows" {
		return nil
	}
	var err error
	if in.Stack, err = registry.WindowsLayers(ctx, j.engine.store, in.Stack); err != nil {
		return err
	}
	in.Steps = slices.Clone(in.Steps)
	for i, st := range in.Steps {
		n := len(st.Stack)
		in.Steps[i].Stack = in.Stack[:n:n]
	}
	return nil
}

func sameLayers(a, b snapshot.Stack) bool {
	return slices.EqualFunc(a, b, func(x, y snapshot.Layer) bool { return x.ID == y.ID })
}

// record keeps every instruction's result of the stages as an image of its own,
// as far as the results are known. It returns the id of each stage's last one.
func (j *job) record(ctx context.Context, stages []*planner.Image) (map[*planner.Image]string, error) {
	var errs []error
	last := map[*planner.Image]string{}
	for _, st := range stages {
		in, complete, err := j.assembleInput(st)
		if err == nil && ctx.Err() == nil { // a build that was ended has no time for it
			err = j.clamp(ctx, &in)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !complete {
			in.Config = lastConfig(in)
		}
		if len(in.Steps) == 0 {
			continue
		}
		recs, err := registry.V1Records(in)
		if err == nil {
			err = j.engine.images.PutV1(recs...)
			last[st] = recs[len(recs)-1].ID
		}
		errs = append(errs, err)
	}
	return last, errors.Join(errs...)
}

// ran is the command of a step that starts a process.
func ran(step *dag.Step) []string {
	if step == nil {
		return nil
	}
	if x, ok := step.Op.(*dag.Exec); ok {
		return x.Args
	}
	return nil
}

func lastConfig(in registry.AssembleInput) planner.ImageConfig {
	if n := len(in.Steps); n > 0 {
		return in.Steps[n-1].Config
	}
	return in.Config
}

// keepFinished records the instructions that were done before a build failed, so
// that their results can be looked at. It remembers what the failed step would
// have run on.
func (j *job) keepFinished(ctx context.Context, cause error) error {
	last, err := j.record(ctx, j.plan.Stages)
	var step *executor.StepError
	if !errors.As(cause, &step) {
		return err
	}
	for _, st := range j.plan.Stages {
		for _, inst := range st.Instructions {
			switch {
			case inst.Step != step.Step:
			case last[st] != "":
				j.before = shortID(last[st], false)
			case st.Base != nil:
				j.before = st.Base.Ref
			}
		}
	}
	return err
}
