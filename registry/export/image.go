package export

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// imageExporter puts an image into the store, and perhaps into registries.
type imageExporter struct {
	look
	push bool
	// byDigest pushes without a tag, insecure to a registry without a certificate.
	byDigest, insecure bool
	// unstored leaves the image out of the store; unpack fetches and unpacks all of
	// its layers.
	unstored, unpack bool
	naming           naming
}

// naming says what else the image is called.
type naming struct {
	// dangling, if set, gives the name dangling@DIGEST; with onlyUnnamed only where
	// the image has no other name.
	dangling    string
	onlyUnnamed bool
	// canonical gives a name with the digest for each name.
	canonical bool
}

func imageOptions() []option[imageExporter] {
	return append(within(lookOptions(), func(e *imageExporter) *look { return &e.look }),
		flag("push", func(e *imageExporter) *bool { return &e.push }),
		flag("push-by-digest", func(e *imageExporter) *bool { return &e.byDigest }),
		flag("registry.insecure", func(e *imageExporter) *bool { return &e.insecure }),
		notFlag("store", func(e *imageExporter) *bool { return &e.unstored }),
		flag("unpack", func(e *imageExporter) *bool { return &e.unpack }),
		text("dangling-name-prefix", func(e *imageExporter) *string { return &e.naming.dangling }),
		flag("danging-name-empty-only", func(e *imageExporter) *bool { return &e.naming.onlyUnnamed }), // BuildKit's spelling
		flag("name-canonical", func(e *imageExporter) *bool { return &e.naming.canonical }),
	)
}

func parseImage(s Spec, push bool) (Exporter, error) {
	e := imageExporter{push: push}
	if err := read(s, imageOptions(), &e); err != nil {
		return nil, err
	}
	return e, e.complete(s, Image)
}

// Push returns an exporter that pushes its image as well; false if it makes none that
// could be.
func Push(e Exporter) (Exporter, bool) {
	img, ok := e.(imageExporter)
	if !ok {
		return e, false
	}
	img.push = true
	return img, true
}

// Kind implements Exporter.
func (imageExporter) Kind() string { return Image }

// Needs implements Exporter.
func (e imageExporter) Needs() Needs {
	n := e.needs()
	if e.push {
		n.Push = &registry.PushOptions{Insecure: e.insecure, Compression: e.compression}
	} else if !e.usual() {
		n.Compress = e.compress(false)
	}
	return n
}

// Check implements Exporter.
func (e imageExporter) Check(of Request) error {
	switch {
	case e.naming.dangling != "" && e.unstored || e.unpack && e.unstored:
		return mistake.New("store=false leaves nothing that could be named or unpacked")
	case e.push && len(e.names) == 0 && len(of.Names) == 0:
		return mistake.New("pushing needs a name for the image").WithHint("add -t NAME")
	case e.byDigest && !e.push:
		return mistake.New("push-by-digest without push=true does nothing")
	}
	for _, name := range slices.Concat(of.Names, e.names) {
		if last := name[strings.LastIndexByte(name, '/')+1:]; e.byDigest && strings.ContainsAny(last, ":@") {
			return mistake.New("push-by-digest: the name %q has a tag, which would not be set", name)
		}
	}
	return e.check(of)
}

// Export implements Exporter.
func (e imageExporter) Export(ctx context.Context, env Env, made Made) (Exported, error) {
	var out Exported
	images, err := e.shape(ctx, env.Client, made.images())
	if err != nil {
		return out, err
	}
	names := e.allNames(made)
	out.Index = e.index(images)
	if e.byDigest { // its names are repositories, no names of the image
		out.Pushed, err = e.send(ctx, env, out.Index, names)
		return out, err
	}
	if !e.unstored {
		if err := e.store(ctx, env, out.Index, names); err != nil {
			return out, err
		}
	}
	out.Names = names
	if e.push {
		out.Pushed, err = e.send(ctx, env, out.Index, names)
	}
	return out, err
}

// store keeps the images under their names.
func (e imageExporter) store(ctx context.Context, env Env, x *registry.Index, names []string) error {
	stored, err := e.withDigests(ctx, env.Client, x, names)
	if err != nil {
		return err
	}
	for _, img := range x.Images {
		env.Task.Item("writing image " + img.ID.String())
		// Some compressions change the layers: then they are new ones.
		if e.unpack || e.compression.ChangesLayers() {
			if err := env.Client.Attach(img.Stack); err != nil {
				return err
			}
			if err := env.Client.Store().Materialize(ctx, img.Stack); err != nil {
				return fmt.Errorf("unpack image %s: %w", img.ID, err)
			}
		}
	}
	for _, n := range stored {
		env.Task.Item("naming to " + n)
	}
	if len(x.Images) > 1 {
		return env.Images.PutIndex(ctx, x, stored...)
	}
	return env.Images.Put(ctx, x.Images[0], stored...)
}

// withDigests adds the names that have the digest of the manifest or index.
func (e imageExporter) withDigests(ctx context.Context, c *registry.Client, x *registry.Index, names []string) ([]string, error) {
	var repos []string
	if e.naming.canonical {
		repos = append(repos, names...)
	}
	if e.naming.dangling != "" && (!e.naming.onlyUnnamed || len(names) == 0) {
		repos = append(repos, e.naming.dangling)
	}
	if len(repos) == 0 {
		return names, nil
	}
	desc, err := c.Describe(ctx, x)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(names)
	for _, r := range repos {
		ref, err := registry.ParseReference(r)
		if err != nil {
			return nil, mistake.New("--output dangling-name-prefix=%s: %w", r, err)
		}
		ref.Tag, ref.Digest = "", desc.Digest
		out = append(out, ref.String())
	}
	return out, nil
}

// send pushes the images under all of their names, all at once, and returns what the last
// one names now.
func (e imageExporter) send(ctx context.Context, env Env, x *registry.Index, names []string) (ocispec.Descriptor, error) {
	descs, errs := make([]ocispec.Descriptor, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		wg.Go(func() { // a registry that fails does not keep the others from their image
			shown := n
			if ref, err := registry.ParseReference(n); e.byDigest && err == nil {
				shown = ref.Repository()
			}
			errs[i] = env.Task.Run(ctx, "pushing "+shown, func(ctx context.Context, t Task) (err error) {
				opts := registry.PushOptions{Insecure: e.insecure, ByDigest: e.byDigest}
				if len(x.Images) > 1 {
					descs[i], err = env.Client.PushIndex(ctx, n, x, opts)
				} else {
					descs[i], err = env.Client.Push(ctx, n, x.Images[0], opts)
				}
				if err == nil {
					t.Item("pushed " + shown + "@" + descs[i].Digest.String())
				}
				return err
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return ocispec.Descriptor{}, err
	}
	return descs[len(descs)-1], nil
}
