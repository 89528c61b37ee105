package build

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/snapshot"
)

// ResolveLayout implements planner.LayoutResolver. The image is taken into the store.
func (r *resolver) ResolveLayout(ctx context.Context, img planner.LayoutImage, platform ocispec.Platform) (*planner.BaseImage, error) {
	return r.once(ctx, baseKey(img.String(), platform), func(b *resolvedBase) error {
		return r.takeLayout(ctx, b, img, platform)
	})
}

func (r *resolver) takeLayout(ctx context.Context, b *resolvedBase, img planner.LayoutImage, platform ocispec.Platform) error {
	l, err := layout.OpenLayout(img.Path, img.Ref())
	if err != nil {
		return err
	}
	taken, desc, err := l.Take(ctx, r.eng.Client, platform)
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	if err := r.eng.Attach(taken); err != nil {
		return err
	}
	b.local(taken, img.String())
	b.base.Digest, b.base.Layout = desc.Digest.String(), img.Path
	return nil
}

// LayoutLayers implements executor.LayoutSource for images that ResolveLayout found.
func (r *resolver) LayoutLayers(_ context.Context, src *dag.OCILayoutSource, _ string) (snapshot.Stack, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.found {
		if b.base.Layout == src.Path && b.base.Digest == src.Digest {
			return b.stack, nil
		}
	}
	return nil, fmt.Errorf("image %s of layout %s was not resolved", src.Digest, src.Path)
}
