package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/registry/winlayers"
	"layered.build/builder/snapshot"
)

// built is one target of a build.
type built struct {
	target *planner.Image
	image  *registry.Image
	files  snapshot.Stack // the file system, as local and tar exporters have it
}

// assembleInput describes a stage with the results that are known. It is false
// if an instruction's result is not: then only the instructions before it are in.
//
// The records of two steps may name different layers of equal content (a step ran
// again, and the one after it was found in the cache). The stack of the last
// instruction is the one that counts; of the others only the height is taken.
func (s *Solution) assembleInput(img *planner.Image) (in registry.AssembleInput, complete bool, err error) {
	in = registry.AssembleInput{Config: img.Config, Epoch: s.plan.Epoch}
	if img.Base != nil {
		base, err := s.plan.images.known(img.Base.Ref, img.Base.Digest)
		if err != nil {
			return in, false, err
		}
		in.Base, in.BaseStack, in.BaseV1 = &img.Base.Config, base.stack, base.v1
	}
	in.Stack = in.BaseStack
	var heights []int
	for _, inst := range img.Instructions {
		if inst.Step != nil {
			res, ok := s.solver.Result(dag.Edge{Step: inst.Step})
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
func (j *Job) clamp(ctx context.Context, in *registry.AssembleInput) error {
	if in.Epoch == nil {
		return nil
	}
	n := len(in.BaseStack)
	if len(in.Stack) < n || !sameLayers(in.Stack[:n], in.BaseStack) {
		return errors.New("the result does not stand on the layers of its base image")
	}
	own, err := j.e.Store.Clamp(ctx, in.BaseStack, in.Stack[n:], *in.Epoch)
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
func (j *Job) assemble(ctx context.Context, s *Solution, epoch *time.Time) ([]built, error) {
	var out []built
	for i, t := range s.plan.Targets {
		in, complete, err := s.assembleInput(t)
		in.Epoch = epoch
		if err == nil && (!complete || !sameLayers(in.Stack, s.results[i].Stack)) {
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
func (j *Job) forWindows(ctx context.Context, t *planner.Image, in *registry.AssembleInput) error {
	if t.Platform.OS != "windows" {
		return nil
	}
	var err error
	if in.Stack, err = winlayers.Convert(ctx, j.e.Store, in.Stack); err != nil {
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

// record keeps every instruction's result of all stages as an image of its own,
// as far as the results are known. It returns the id of each stage's last one.
func (j *Job) record(ctx context.Context, s *Solution) (map[*planner.Image]string, error) {
	var errs []error
	last := map[*planner.Image]string{}
	for _, st := range s.plan.Stages {
		in, complete, err := s.assembleInput(st)
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
			err = j.e.Images.PutV1(recs...)
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
