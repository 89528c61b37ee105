package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/task"
	"layered.build/builder/executor"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// resolver finds base images: in the store first, then in registries. It serves
// the planner (what is this image?) and the executor (where are its layers?).
type resolver struct {
	eng  *engine.Engine
	pull Pull
	obs  executor.Observer

	mu    sync.Mutex // guards what follows
	asked map[string]*asked
	found []*resolvedBase // which do not change any more
}

// asked is an image that is looked for, by one at a time.
type asked struct {
	mu    sync.Mutex // guards what follows; held while it is looked for
	found *resolvedBase
	err   error
}

// resolvedBase is one image that was found.
type resolvedBase struct {
	base  *planner.BaseImage
	stack snapshot.Stack
	v1    string // id of the V1 record that the image ended with
}

var (
	_ planner.ImageResolver  = (*resolver)(nil)
	_ planner.LayoutResolver = (*resolver)(nil)
	_ executor.ImageSource   = (*resolver)(nil)
	_ executor.LayoutSource  = (*resolver)(nil)
)

// newResolver returns a resolver; "" is PullMissing.
func newResolver(eng *engine.Engine, pull Pull, obs executor.Observer) *resolver {
	pull = cmp.Or(pull, PullMissing)
	return &resolver{eng: eng, pull: pull, obs: obs, asked: map[string]*asked{}}
}

// ResolveImage implements planner.ImageResolver.
func (r *resolver) ResolveImage(ctx context.Context, ref string, platform ocispec.Platform) (*planner.BaseImage, error) {
	name, err := registry.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	return r.once(ctx, baseKey(name.String(), platform), func(b *resolvedBase) error {
		return task.Run(ctx, r.obs, "[internal] load metadata for "+name.String(), func(ctx context.Context, _ *task.Task) error {
			return r.resolve(ctx, b, name, platform)
		})
	})
}

func baseKey(ref string, p ocispec.Platform) string { return ref + " " + platforms.Format(p) }

// once has an image looked for once: find fills in what is found. One whose search was
// ended is looked for again by the next who asks.
func (r *resolver) once(ctx context.Context, key string, find func(*resolvedBase) error) (*planner.BaseImage, error) {
	r.mu.Lock()
	a := r.asked[key]
	if a == nil {
		a = &asked{}
		r.asked[key] = a
	}
	r.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.err != nil:
		return nil, a.err
	case a.found != nil:
		return a.found.base, nil
	}
	b := &resolvedBase{}
	if err := find(b); err != nil {
		if ctx.Err() == nil {
			a.err = err
		}
		return nil, err
	}
	a.found = b
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, b)
	return b.base, nil
}

// resolve looks in the store unless the registry is to be asked, then in the
// registry.
func (r *resolver) resolve(ctx context.Context, b *resolvedBase, name registry.Reference, platform ocispec.Platform) error {
	var other error
	if r.pull == PullMissing || r.pull == PullNever {
		ok, err := r.local(b, name, platform)
		switch {
		case ok:
			return nil
		case err != nil && !errors.Is(err, registry.ErrNotFound):
			return err
		}
		if other = err; err != nil {
			if _, lacks := r.eng.Images.ResolveLocal(name.String()); lacks != nil {
				other = nil
			}
		}
		if r.pull == PullNever {
			return errors.Join(fmt.Errorf("%s is not in the store, and --pull=never asks no registry: %w", name, registry.ErrNotFound), other)
		}
	}
	res, err := r.eng.Client.Resolve(ctx, name.String(), platform)
	if r.pull == PullNewer && errors.Is(err, registry.ErrUnreachable) {
		if ok, _ := r.local(b, name, platform); ok {
			return nil
		}
	}
	if err != nil && other != nil {
		return fmt.Errorf("%w; %w", other, err)
	}
	if err != nil {
		return err
	}
	b.base = &planner.BaseImage{
		Ref: name.String(), Digest: res.Digest().String(), Platform: res.Platform, Config: res.Config,
	}
	// Registered now, not when something needs them: records of the cache that
	// name layers which nobody has fetched yet are valid only then.
	b.stack, err = r.eng.Client.Layers(ctx, res)
	return err
}

// local looks for an image in the store; one of another platform is an error that
// matches registry.ErrNotFound.
func (r *resolver) local(b *resolvedBase, name registry.Reference, platform ocispec.Platform) (bool, error) {
	img, err := r.eng.Images.ResolvePlatform(name.String(), platform)
	if err != nil || !samePlatform(img, platform) {
		return false, err
	}
	if err := r.eng.Attach(img); err != nil {
		return false, err
	}
	b.local(img, name.String())
	return true, nil
}

func samePlatform(img *registry.Image, want ocispec.Platform) bool {
	return img.Config.OS == want.OS && img.Config.Architecture == want.Architecture
}

func (b *resolvedBase) local(img *registry.Image, ref string) {
	b.base = &planner.BaseImage{Ref: ref, Digest: img.ID.String(), Platform: img.Config.Platform, Config: img.Config}
	if img.Manifest != nil {
		b.base.Digest = img.Manifest.Digest.String()
	}
	b.stack, b.v1 = img.Stack, img.V1
}

// Layers implements executor.ImageSource for images that ResolveImage found.
func (r *resolver) Layers(ctx context.Context, src *dag.ImageSource, platform string) (snapshot.Stack, error) {
	b, err := r.known(src.Ref, src.Digest)
	if err != nil {
		return nil, err
	}
	return b.stack, nil
}

// known returns an image that ResolveImage found.
func (r *resolver) known(ref, digest string) (*resolvedBase, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.found {
		if b.base.Ref == ref && b.base.Digest == digest {
			return b, nil
		}
	}
	return nil, fmt.Errorf("image %s@%s was not resolved", ref, digest)
}
