package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/executor"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/progress"
	"layered.build/builder/snapshot/files"
)

// product is what a build made.
type product struct {
	images []built // as the first output has them that holds an image
	names  []string
	// manifest describes the manifest or index if one was made.
	manifest ocispec.Descriptor
}

// several reports whether the product is an image on several platforms.
func (p *product) several() bool { return len(p.images) > 1 }

// export makes the images and writes them where the outputs say.
func (j *job) export(ctx context.Context, results []executor.Result) (*product, error) {
	var p *product
	err := j.task("exporting to image", func(t *task) error {
		under := &epochs{job: j, results: results, made: map[string][]built{}}
		first, err := under.images(ctx, j.firstEpoch())
		if err != nil {
			return err
		}
		if _, err := j.record(ctx, j.plan.Stages); err != nil {
			return err
		}
		done, err := j.write(progress.With(ctx, t.transfer), t, under)
		if err != nil {
			return err
		}
		p, err = j.newProduct(ctx, first, done)
		return err
	})
	return p, err
}

// write writes to all outputs, one after the other.
func (j *job) write(ctx context.Context, t *task, under *epochs) ([]export.Exported, error) {
	env := export.Env{
		Client: j.engine.client, Images: j.engine.images, Engines: engineSettings(),
		Sinks: export.Disk{Stdout: j.app.std.Out}, Task: shownTask{t},
	}
	var all []export.Exported
	for _, o := range j.outputs {
		epoch := export.EpochOf(o, j.plan.Epoch)
		images, err := under.images(ctx, epoch)
		if err != nil {
			return nil, err
		}
		made := export.Made{Names: j.flags.tags, Epoch: epoch}
		for _, b := range images {
			made.Images = append(made.Images, export.Member{Platform: b.target.Platform, Image: b.image, Files: b.files})
		}
		done, err := o.Export(ctx, env, made)
		if err != nil {
			return nil, err
		}
		all = append(all, done)
	}
	return all, nil
}

// newProduct puts together what the outputs made known. Where nothing has a manifest for
// several platforms and a script asks for its digest, one is made.
func (j *job) newProduct(ctx context.Context, images []built, done []export.Exported) (*product, error) {
	p := &product{images: slices.Clone(images)}
	var index *registry.Index
	for _, d := range done {
		if index == nil && d.Index != nil {
			index = d.Index
		}
		if d.Pushed.Digest != "" {
			p.manifest = d.Pushed
		}
		p.names = append(p.names, d.Names...)
	}
	if index != nil {
		for i := range p.images {
			p.images[i].image = index.Images[i] // another compression may be another image
		}
		if m := index.Images[0].Manifest; !p.several() && m != nil && p.manifest.Digest == "" {
			p.manifest = *m
		}
	}
	asked := j.flags.quiet || j.flags.iidfile != "" || j.flags.metadataFile != ""
	if !p.several() || p.manifest.Digest != "" || !asked {
		return p, nil
	}
	if index == nil {
		index = &registry.Index{}
		for _, b := range images {
			index.Images = append(index.Images, b.image)
		}
	}
	var err error
	p.manifest, _, _, err = j.engine.client.CompleteIndex(ctx, index)
	return p, err
}

// epochs are the images of a build under all epochs that outputs ask for.
type epochs struct {
	job     *job
	results []executor.Result
	made    map[string][]built
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
	made, err := e.job.assemble(ctx, e.results, epoch)
	if err == nil {
		e.made[key] = made
	}
	return made, err
}

// firstEpoch is the epoch of the image that the build's id is that of.
func (j *job) firstEpoch() *time.Time {
	for _, o := range j.outputs {
		if o.Needs().Image {
			return export.EpochOf(o, j.plan.Epoch)
		}
	}
	return j.plan.Epoch
}

// finish writes what scripts read: the id on stdout or in a file, the metadata.
func (j *job) finish(p *product) error {
	if j.flags.quiet && !j.onlyCache() {
		if _, err := fmt.Fprintln(j.app.std.Out, p.id()); err != nil {
			return err
		}
	}
	if j.flags.iidfile != "" {
		if err := files.WriteBytes(j.flags.iidfile, 0o644, []byte(p.id())); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if j.flags.metadataFile == "" {
		return nil
	}
	return j.writeMetadata(p)
}

// id is the image's id: the digest of its configuration, or that of the index of
// several.
func (p *product) id() digest.Digest {
	if p.several() {
		return p.manifest.Digest
	}
	return p.images[0].image.ID
}

func (j *job) onlyCache() bool { return len(j.outputs) == 1 && j.outputs[0].Kind() == export.CacheOnly }

// writeMetadata writes --metadata-file with buildx's keys.
func (j *job) writeMetadata(p *product) error {
	meta := map[string]any{}
	desc := p.manifest
	if !p.several() {
		img := p.images[0].image
		meta["containerimage.config.digest"] = img.ID
		meta["containerimage.digest"] = img.ID
		if desc.Digest == "" && img.Manifest != nil {
			desc = *img.Manifest
		}
	}
	if desc.Digest != "" {
		meta["containerimage.digest"], meta["containerimage.descriptor"] = desc.Digest, desc
	}
	if len(p.names) > 0 {
		meta["image.name"] = strings.Join(p.names, ",")
	}
	data, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	if err := files.WriteBytes(j.flags.metadataFile, 0o644, append(data, '\n')); err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}
