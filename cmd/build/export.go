package build

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cmd/task"
	"layered.build/builder/planner"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
)

// Product is what a build made.
type Product struct {
	// Images are those of the targets, in their order, as the first exporter has them that
	// holds an image.
	Images []*registry.Image
	// Names are those that the image has now.
	Names []string
	// Manifest describes the manifest or index; its digest is "" if none was made.
	Manifest ocispec.Descriptor
	// Differing names the steps whose cached results are not what they made now, if that
	// was verified.
	Differing []string
}

// several reports whether the product is an image on several platforms.
func (p *Product) several() bool { return len(p.Images) > 1 }

// ID is the image's id: the digest of its configuration, or that of the index of
// several.
func (p *Product) ID() digest.Digest {
	if p.several() {
		return p.Manifest.Digest
	}
	return p.Images[0].ID
}

// Metadata describes the product with buildx's keys.
func (p *Product) Metadata() map[string]any {
	meta := map[string]any{}
	desc := p.Manifest
	if !p.several() {
		img := p.Images[0]
		meta["containerimage.config.digest"] = img.ID
		meta["containerimage.digest"] = img.ID
		if desc.Digest == "" && img.Manifest != nil {
			desc = *img.Manifest
		}
	}
	if desc.Digest != "" {
		meta["containerimage.digest"], meta["containerimage.descriptor"] = desc.Digest, desc
	}
	return meta
}

// Export makes the images and writes them where the exporters say.
func (j *Job) Export(ctx context.Context, s *Solution) (*Product, error) {
	var p *Product
	err := task.Run(ctx, j.obs, "exporting to image", func(ctx context.Context, t *task.Task) error {
		v1, err := j.record(ctx, s)
		if err != nil {
			return err
		}
		under := &epochs{job: j, solution: s, v1: v1, made: map[string][]built{}}
		first, err := under.images(ctx, j.firstEpoch(s.plan))
		if err != nil {
			return err
		}
		done, err := j.write(ctx, t, under)
		if err != nil {
			return err
		}
		if p, err = j.newProduct(ctx, first, done); err == nil {
			j.missCaches(p.Images)
			p.Differing = s.solver.Differing()
		}
		return err
	})
	return p, s.plan.explain(err)
}

// write has all exporters write, one after the other.
func (j *Job) write(ctx context.Context, t *task.Task, under *epochs) ([]export.Exported, error) {
	env := export.Env{Client: j.e.Client, Images: j.e.Images, Engines: j.in.Engines, Sinks: j.in.Sinks, Task: t}
	var all []export.Exported
	for _, e := range j.req.Exporters {
		epoch := export.EpochOf(e, under.solution.plan.Epoch)
		images, err := under.images(ctx, epoch)
		if err != nil {
			return nil, err
		}
		made := export.Made{Names: j.req.Names, Split: j.req.MultiPlatform, Epoch: epoch}
		for _, b := range images {
			made.Images = append(made.Images, export.Member{Platform: b.target.Platform, Image: b.image, Files: b.files})
		}
		done, err := e.Export(ctx, env, made)
		if err != nil {
			return nil, err
		}
		all = append(all, done)
	}
	return all, nil
}

// newProduct puts together what the exporters made known. Where nothing has a manifest for
// several platforms and it is to be described, one is made.
func (j *Job) newProduct(ctx context.Context, images []built, done []export.Exported) (*Product, error) {
	p := &Product{}
	for _, b := range images {
		p.Images = append(p.Images, b.image)
	}
	var index *registry.Index
	for _, d := range done {
		if index == nil && d.Index != nil {
			index = d.Index
		}
		if d.Pushed.Digest != "" {
			p.Manifest = d.Pushed
		}
		p.Names = append(p.Names, d.Names...)
	}
	if index != nil {
		p.Images = slices.Clone(index.Images) // another compression may be another image
		if m := index.Images[0].Manifest; !p.several() && m != nil && p.Manifest.Digest == "" {
			p.Manifest = *m
		}
	}
	if !p.several() || p.Manifest.Digest != "" || !j.req.Describe {
		return p, nil
	}
	if index == nil {
		index = &registry.Index{Images: p.Images}
	}
	var err error
	p.Manifest, _, _, err = j.e.Client.CompleteIndex(ctx, index)
	return p, err
}

// epochs are the images of a build under all epochs that exporters ask for.
type epochs struct {
	job      *Job
	solution *Solution
	v1       map[*planner.Image]string // the last record of each stage
	made     map[string][]built
}

// images returns the images under an epoch.
func (e *epochs) images(ctx context.Context, epoch *time.Time) ([]built, error) {
	key := ""
	if epoch != nil {
		key = strconv.FormatInt(epoch.Unix(), 10)
	}
	if made, ok := e.made[key]; ok {
		return made, nil
	}
	made, err := e.job.assemble(ctx, e.solution, epoch, e.v1)
	if err == nil {
		e.made[key] = made
	}
	return made, err
}

// firstEpoch is the epoch of the image that the build's id is that of.
func (j *Job) firstEpoch(p *Plan) *time.Time {
	for _, e := range j.req.Exporters {
		if e.Needs().Image {
			return export.EpochOf(e, p.Epoch)
		}
	}
	return p.Epoch
}
