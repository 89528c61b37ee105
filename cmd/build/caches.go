package build

import (
	"context"
	"errors"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/task"
	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/snapshot"
)

// Caches are the shared caches of a build.
type Caches struct {
	// From are asked, in their order, for what this machine has not.
	From []shared.Source
	// To are written.
	To []shared.Target
	// Inline, unless nil, is the cache that the image itself holds.
	Inline *shared.Inline
}

// newSession opens the cache of the build. It is nil if the build has the machine's alone.
func (j *Job) newSession() *shared.Session {
	if len(j.in.Caches.From)+len(j.in.Caches.To) == 0 && j.in.Caches.Inline == nil {
		return nil
	}
	o := SessionOptions(j.e, j.in.Caches)
	o.Task, o.Tell = j.task, j.tell
	if j.carrier != nil {
		o.Mounts = j.carrier
	}
	s := shared.New(o)
	j.e.Store.SetOutlines(s)
	return s
}

// SessionOptions are those of a session of an engine's store, that nobody is told of.
func SessionOptions(e *engine.Engine, c Caches) shared.Options {
	return shared.Options{
		Local: e.Cache, Store: e.Store, Packer: packer{e.Client}, From: c.From, To: c.To,
		Salt: e.CacheSalt,
		Lock: func(ctx context.Context, name string) (func(), error) {
			return e.Cache.Lock(ctx, cache.NameKey(name))
		},
	}
}

// task runs fn as a task that is shown.
func (j *Job) task(ctx context.Context, name string, fn func(context.Context) error) error {
	return task.Run(ctx, j.obs, name, func(ctx context.Context, _ *task.Task) error { return fn(ctx) })
}

// tell warns of something that does not stop the build.
func (j *Job) tell(text string) {
	j.obs(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: []byte(text)})
}

// records are what the solver looks up and writes.
func (j *Job) records() cache.Cache {
	if j.shared != nil {
		return j.shared
	}
	return j.e.Cache
}

// make solves and exports. What a shared cache promised, and has not, is made again. What
// was done is exported to caches, also of a build that failed.
func (j *Job) make(ctx context.Context, p *Plan, sb sandbox.Sandbox) (*Product, error) {
	if j.shared == nil {
		s, err := j.Solve(ctx, p, sb)
		if err != nil {
			return nil, err
		}
		return j.Export(ctx, s)
	}
	j.shared.Begin(ctx)
	for {
		var made *Product
		var results []snapshot.Stack
		s, err := j.Solve(ctx, p, sb)
		if err == nil {
			for _, r := range s.results {
				results = append(results, r.Stack)
			}
			if err = p.explain(j.bringHere(ctx, results)); err == nil {
				made, err = j.Export(ctx, s)
			}
		}
		if j.shared.Recover(ctx, err) {
			continue
		}
		if err := errors.Join(err, p.explain(j.shared.Finish(ctx, results))); err != nil {
			return nil, err
		}
		return made, nil
	}
}

// bringHere fetches the layers of results that an image of the store will need, and that
// only a shared cache has: later processes do not know of it.
func (j *Job) bringHere(ctx context.Context, results []snapshot.Stack) error {
	keeps := false
	for _, e := range j.req.Exporters {
		keeps = keeps || e.Kind() == export.Image && e.Needs().Push == nil
	}
	if !keeps {
		return nil
	}
	for _, stack := range results {
		for _, l := range stack {
			if !j.shared.Lazy(l) {
				continue
			}
			if err := j.e.Store.Materialize(ctx, stack); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// packer makes the compressed forms that images have.
type packer struct{ c *registry.Client }

// Pack implements shared.Packer.
func (p packer) Pack(ctx context.Context, stack snapshot.Stack, how shared.Compression) (ocispec.Descriptor, error) {
	return p.c.Form(ctx, stack, registry.Compression{Type: strings.ToLower(how.Type), Level: how.Level, Force: how.Force})
}

// Known implements shared.Packer.
func (p packer) Known(l snapshot.Layer) (ocispec.Descriptor, bool) { return p.c.KnownForm(l) }

// Packed implements shared.Packer.
func (p packer) Packed(form ocispec.Descriptor) shared.Content {
	return shared.Content(p.c.Blob(form))
}
