package build

import (
	"context"
	"errors"
	"slices"

	"layered.build/builder/registry"
)

// squash makes one layer of all that a stage adds to its base. The history keeps
// every instruction; the last one has the layer.
func (j *Job) squash(ctx context.Context, in *registry.AssembleInput) error {
	n := len(in.BaseStack)
	if !j.req.Squash || len(in.Stack) <= n+1 {
		return nil
	}
	if !sameLayers(in.Stack[:n], in.BaseStack) {
		return errors.New("the result does not stand on the layers of its base image")
	}
	l, err := j.e.Store.Squash(ctx, in.BaseStack, in.Stack[n:], in.Epoch)
	if err != nil {
		return err
	}
	in.Stack = append(slices.Clone(in.BaseStack), l)
	for i := range in.Steps {
		in.Steps[i].Stack, in.Steps[i].EmptyLayer = in.BaseStack, true
	}
	if last := len(in.Steps) - 1; last >= 0 {
		in.Steps[last].Stack, in.Steps[last].EmptyLayer = in.Stack, false
	}
	return nil
}
