package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
	"layered.build/builder/registry"
	"layered.build/builder/registry/assemble"
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
	if in, err = s.baseOf(img); err != nil {
		return in, false, err
	}
	in.Config = img.Config
	in.Steps, in.Stack, complete, err = s.steps(img, img.Instructions, in.BaseStack)
	return in, complete, err
}

// baseOf describes what a stage's first instruction stands on.
func (s *Solution) baseOf(img *planner.Image) (registry.AssembleInput, error) {
	in := registry.AssembleInput{Epoch: s.plan.Epoch}
	if img.Base == nil {
		return in, nil
	}
	base, err := s.plan.images.known(img.Base.Ref, img.Base.Digest)
	if err != nil {
		return in, err
	}
	in.Base, in.BaseStack, in.BaseV1 = &img.Base.Config, base.stack, base.v1
	return in, nil
}

// steps describes instructions of a stage that follow each other on top of below, as far
// as their results are known, and returns what they left.
func (s *Solution) steps(img *planner.Image, insts []planner.Instruction, below snapshot.Stack) (steps []registry.AssembleStep, stack snapshot.Stack, complete bool, err error) {
	stack = below
	var heights []int
	for i := range insts {
		if step := insts[i].Step; step != nil {
			res, ok := s.solver.Result(dag.Edge{Step: step})
			if !ok {
				break
			}
			stack = res.Stack
		}
		heights = append(heights, len(stack))
	}
	for i, n := range heights {
		inst := &insts[i]
		if n > len(stack) {
			return nil, nil, false, fmt.Errorf("stage %s: %q left %d layers, but the stage has %d", img.Stage, inst.CreatedBy, n, len(stack))
		}
		steps = append(steps, registry.AssembleStep{
			CreatedBy: inst.CreatedBy, Comment: inst.Comment, EmptyLayer: inst.EmptyLayer, Cmd: ran(inst.Step),
			Name: layerName(inst), Unlisted: inst.Unlisted,
			Stack: stack[:n:n], Left: configuration{inst.Config},
		})
	}
	return steps, stack, len(heights) == len(insts), nil
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
	onTopOf(in.Steps, in.Stack)
	return nil
}

// name gives the layers of a stage the digests that images know layers by.
func (j *Job) name(ctx context.Context, in *registry.AssembleInput) error {
	named, err := j.e.Store.Name(ctx, nil, in.Stack)
	if err != nil || sameLayers(named, in.Stack) {
		return err
	}
	in.Stack, in.Steps = named, slices.Clone(in.Steps)
	onTopOf(in.Steps, named)
	return nil
}

// onTopOf gives steps the layers of a stack of which there are as many.
func onTopOf(steps []registry.AssembleStep, stack snapshot.Stack) {
	for i := range steps {
		n := len(steps[i].Stack)
		steps[i].Stack = stack[:n:n]
	}
}

// assemble makes the images of the targets under an epoch, which may be nil. V1 are the
// ids of the stages' records.
func (j *Job) assemble(ctx context.Context, s *Solution, epoch *time.Time, v1 map[*planner.Image]string) ([]built, error) {
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
		if err == nil {
			err = j.name(ctx, &in)
		}
		if err != nil {
			return nil, err
		}
		files, made := in.Stack, s.results[i].Stack
		if err := j.forWindows(ctx, t, &in); err != nil {
			return nil, err
		}
		img, err := registry.Assemble(in)
		if err != nil {
			return nil, err
		}
		if sameLayers(files, in.Stack) {
			if img, err = j.withCache(ctx, img, shared.InlineImage{Made: made, As: files, Base: len(in.BaseStack), Epoch: epoch}); err != nil {
				return nil, err
			}
		}
		img.V1 = v1[t]
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
	onTopOf(in.Steps, in.Stack)
	return nil
}

func sameLayers(a, b snapshot.Stack) bool {
	return slices.EqualFunc(a, b, func(x, y snapshot.Layer) bool { return x.ID == y.ID })
}

// layerName is what the step is called that made the layer of an instruction.
func layerName(inst *planner.Instruction) string {
	switch {
	case inst.Unlisted:
		return inst.CreatedBy
	case inst.Step == nil:
		return ""
	}
	if _, ok := inst.Step.Op.(*dag.Merge); ok { // of what was laid over the others
		return inst.Step.Inputs[len(inst.Step.Inputs)-1].Step.Meta.Name
	}
	return inst.Step.Meta.Name
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

// configuration is what an instruction left, for its record.
type configuration struct{ left *settings.Configuration }

// Image implements assemble.Configuration.
func (c configuration) Image() registry.ImageConfig { return c.left.Image() }

// On implements assemble.Configuration.
func (c configuration) On(before assemble.Configuration) (assemble.Additions, bool) {
	if b, ok := before.(configuration); !ok || c.left.Before() != b.left {
		return assemble.Additions{}, false
	}
	a := c.left.Additions()
	return assemble.Additions{Rest: c.left.Rest(), Env: a.Env, Labels: a.Labels, Ports: a.Ports, Volumes: a.Volumes}, true
}
