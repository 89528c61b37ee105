package export

import (
	"context"
	"fmt"

	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// Target is what layers can be prepared for while later steps run: a repository that will
// get them, or a form that they will have in an archive, the store or an engine.
type Target struct {
	ref      string // "": they are only compressed
	push     registry.PushOptions
	compress Compress
}

// Targets are those of exporters of an image that all of them call by names: the
// repositories, and then the forms. Exporters with an epoch of their own have none, since
// their layers are others.
func Targets(all []Exporter, names []string) []Target {
	var repos, forms []Target
	seen := map[string]bool{}
	add := func(to *[]Target, key string, t Target) {
		if !seen[key] {
			seen[key] = true
			*to = append(*to, t)
		}
	}
	for _, e := range all {
		n := e.Needs()
		if n.Epoch != nil {
			continue
		}
		if c := n.Compress; c != nil {
			add(&forms, fmt.Sprintf("%s %t %t", c.Form.Compression, c.Form.Foreign, c.OnlyNew), Target{compress: *c})
		}
		if n.Push == nil {
			continue
		}
		for _, name := range normalised(names, n.Names) {
			if ref, err := registry.ParseReference(name); err == nil {
				add(&repos, ref.Repository()+" "+n.Push.Compression.String(), Target{ref: name, push: *n.Push})
			}
		}
	}
	return append(repos, forms...)
}

// Prepare sends the layers of a stack to the repository, or compresses them. It may be
// called for several stacks at once. Whoever exports the image later meets an error again.
func (t Target) Prepare(ctx context.Context, c *registry.Client, stack snapshot.Stack) error {
	if t.ref == "" {
		return c.CompressLayers(ctx, stack, t.compress.Form, t.compress.OnlyNew)
	}
	return c.PushLayers(ctx, t.ref, stack, t.push)
}

// Tap is what receives the layer above a stack while it is made; nil if nothing does.
func (t Target) Tap(ctx context.Context, c *registry.Client, below snapshot.Stack) snapshot.Tap {
	opts := t.push
	if t.ref == "" {
		opts.Compression = t.compress.Form.Compression
	}
	return c.TapLayer(ctx, t.ref, below, opts)
}
