package build

import (
	"context"
	"errors"
	"slices"

	"layered.build/builder/planner"
	"layered.build/builder/registry"
	"layered.build/builder/registry/assemble"
	"layered.build/builder/snapshot"
)

// recorded is how far the records of a stage go.
type recorded struct {
	chain    *assemble.Chain
	made     snapshot.Stack // what the chain's instructions left; the chain has it under the epoch
	own      int            // instructions with a record
	complete bool
}

// record keeps every instruction's result of all stages as an image of its own, as far as
// the results are known. It returns the id of each stage's last one. What a stage has
// from the one that it is built on is not done again.
func (j *Job) record(ctx context.Context, s *Solution) (map[*planner.Image]string, error) {
	var errs []error
	last := map[*planner.Image]string{}
	wanted := map[*planner.Image]bool{}
	for _, t := range s.plan.Targets {
		for ; t != nil; t = t.Parent {
			wanted[t] = true
		}
	}
	done := map[*planner.Image]*recorded{}
	for _, st := range s.plan.Stages {
		r, err := j.recordStage(ctx, s, st, done[st.Parent], wanted[st])
		errs = append(errs, err)
		if r != nil {
			done[st] = r
			if r.own > 0 {
				last[st] = r.chain.ID()
			}
		}
	}
	return last, errors.Join(errs...)
}

// recordStage makes the records of a stage, on top of those of its parent if it has one.
// Unless it is wanted for an image, they end before a layer that has no name.
func (j *Job) recordStage(ctx context.Context, s *Solution, st *planner.Image, parent *recorded, wanted bool) (*recorded, error) {
	if parent != nil && !parent.complete {
		return parent, nil
	}
	if parent == nil {
		in, err := s.baseOf(st)
		if err != nil {
			return nil, err
		}
		parent = &recorded{chain: assemble.NewChain(in.Base, in.BaseStack, in.BaseV1, in.Epoch), made: in.BaseStack}
	}
	steps, made, complete, err := s.steps(st, st.Instructions[parent.own:], parent.made)
	if err != nil {
		return nil, err
	}
	n := len(parent.made)
	if len(made) < n || !sameLayers(made[:n], parent.made) {
		if parent.own == 0 {
			return nil, errors.New("the result does not stand on the layers of its base image")
		}
		return j.recordStage(ctx, s, st, nil, wanted) // other layers of the same content
	}
	own := made[n:]
	if ctx.Err() == nil { // a build that was ended has no time for it
		if epoch := s.plan.Epoch; epoch != nil {
			if own, err = j.e.Store.Clamp(ctx, parent.chain.Stack(), own, *epoch); err != nil {
				return nil, err
			}
		}
		if wanted {
			if own, err = j.e.Store.Name(ctx, parent.chain.Stack(), own); err != nil {
				return nil, err
			}
		}
		onTopOf(steps, append(slices.Clone(parent.chain.Stack()), own...))
	}
	noName := func(st registry.AssembleStep) bool { return slices.ContainsFunc(st.Stack, snapshot.Layer.Unnamed) }
	if i := slices.IndexFunc(steps, noName); i >= 0 {
		steps, complete = steps[:i], false
	}
	chain, err := parent.chain.Extend(steps, j.e.Images.PutV1)
	if err != nil {
		return nil, err
	}
	return &recorded{chain: chain, made: made, own: parent.own + len(steps), complete: complete}, nil
}
