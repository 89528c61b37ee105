package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/executor"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/snapshot/files"
)

// checkNames refuses names that are no image references, before the build.
func checkNames(tags []string, outs []output) error {
	all := tags
	for _, o := range outs {
		all = append(all, o.names...)
		for _, t := range append(tags[:len(tags):len(tags)], o.names...) {
			if last := t[strings.LastIndexByte(t, '/')+1:]; o.byDigest && strings.ContainsAny(last, ":@") {
				return mistake.New("push-by-digest: the name %q has a tag, which would not be set", t)
			}
		}
	}
	for _, t := range all {
		ref, err := registry.ParseReference(t)
		if err != nil {
			return mistake.New("%w", err)
		}
		if ref.Digest != "" {
			return mistake.New("the name %q has a digest, which a new image cannot promise", t)
		}
	}
	return nil
}

// product is what a build made.
type product struct {
	results []executor.Result
	images  []built // under the epoch of the first output that holds an image
	// under are the images under the epochs that were asked for.
	under map[string][]built
	names []string
	// manifest describes the manifest or index if one was made.
	manifest ocispec.Descriptor
	// index is that of the first output that has one.
	index *registry.Index
}

// several reports whether the product is an image on several platforms.
func (p *product) several() bool { return len(p.images) > 1 }

// export makes the images and writes them where the outputs say.
func (j *job) export(ctx context.Context, results []executor.Result) (*product, error) {
	p := &product{results: results, under: map[string][]built{}}
	err := j.task("exporting to image", func(t *task) error {
		first, err := j.imagesUnder(ctx, p, j.firstEpoch())
		if err != nil {
			return err
		}
		p.images = slices.Clone(first)
		if _, err := j.record(ctx, j.plan.Stages); err != nil {
			return err
		}
		for _, o := range j.outputs {
			if err := j.write(ctx, t, o, p); err != nil {
				return err
			}
		}
		if p.several() && p.manifest.Digest == "" && (j.flags.quiet || j.flags.iidfile != "" || j.flags.metadataFile != "") {
			if p.index == nil {
				p.index = j.index(&output{}, members(p.images))
			}
			p.manifest, _, _, err = j.engine.client.CompleteIndex(ctx, p.index)
		}
		return err
	})
	return p, err
}

// imagesUnder returns the images under an epoch.
func (j *job) imagesUnder(ctx context.Context, p *product, epoch *time.Time) ([]built, error) {
	key := ""
	if epoch != nil {
		key = strconv.FormatInt(epoch.Unix(), 10)
	}
	if made, ok := p.under[key]; ok {
		return made, nil
	}
	made, err := j.assemble(ctx, p.results, epoch)
	if err == nil {
		p.under[key] = made
	}
	return made, err
}

// epochOf is the epoch of an output: its own or the build's.
func (j *job) epochOf(o output) *time.Time {
	if o.epoch != nil {
		return o.epoch.time
	}
	return j.plan.Epoch
}

// firstEpoch is the epoch of the image that the build's id is that of.
func (j *job) firstEpoch() *time.Time {
	for _, o := range j.outputs {
		if o.holdsImage() || o.kind == outDocker || o.kind == outLoad {
			return j.epochOf(o)
		}
	}
	return j.plan.Epoch
}

// checkEpochs refuses not to limit times under an epoch.
func (j *job) checkEpochs() error {
	for _, o := range j.outputs {
		if o.keepTime && j.epochOf(o) != nil {
			return mistake.Unsupported("--output rewrite-timestamp=false under an epoch", "the times of new layers are always limited to SOURCE_DATE_EPOCH; source-date-epoch= with no value takes it away")
		}
	}
	return nil
}

func members(images []built) []*registry.Image {
	var out []*registry.Image
	for _, b := range images {
		out = append(out, b.image)
	}
	return out
}

// write does one output.
func (j *job) write(ctx context.Context, t *task, o output, p *product) error {
	names := normalised(append(append([]string(nil), j.flags.tags...), o.names...))
	images, err := j.imagesUnder(ctx, p, j.epochOf(o))
	if err != nil {
		return err
	}
	switch o.kind {
	case outCacheOnly:
		return nil
	case outTar:
		t.item("writing files to " + o.dest)
		return toFile(o.dest, j.app.std.Out, func(w io.Writer) error { return j.writeTar(ctx, t.sized(w, o.dest), o, images) })
	case outLocal:
		t.item("writing files to " + o.dest)
		return j.writeLocal(ctx, t, o, images)
	case outLoad:
		return j.load(ctx, o, members(images), names)
	case outDocker:
		if o.usualForm() && !o.layout {
			t.item("writing docker archive to " + o.dest)
			return toFile(o.dest, j.app.std.Out, func(w io.Writer) error {
				return layout.WriteDocker(registry.WithProgress(ctx, t.transfer), w, j.engine.client, layout.Item{Image: images[0].image, Names: names})
			})
		}
	}
	shaped, err := j.shape(ctx, t, o, members(images))
	if err != nil {
		return err
	}
	p.note(j.index(&o, shaped))
	switch {
	case o.kind == outOCI || o.kind == outDocker:
		return j.writeOCI(ctx, t, o, shaped, names)
	case o.byDigest: // its names are repositories, no names of the image
		return j.push(ctx, o, p, shaped, names)
	}
	if !o.unstored {
		if err := j.store(ctx, t, o, shaped, names); err != nil {
			return err
		}
	}
	p.names = append(p.names, names...)
	if o.push {
		return j.push(ctx, o, p, shaped, names)
	}
	return nil
}

// shape gives the images the form that an output asks for.
func (j *job) shape(ctx context.Context, t *task, o output, images []*registry.Image) ([]*registry.Image, error) {
	if o.usualForm() {
		return images, nil
	}
	ctx = registry.WithProgress(ctx, t.transfer)
	for i, img := range images {
		var err error
		images[i], err = j.engine.client.Shape(ctx, img, registry.Form{
			Compression: o.compression, DockerTypes: o.dockerTypes, Foreign: o.foreign,
			Annotations: o.annotated("manifest", &img.Config.Platform),
		})
		if err != nil {
			return nil, err
		}
	}
	return images, nil
}

// note remembers what the first output with an image looks like.
func (p *product) note(x *registry.Index) {
	if p.index != nil {
		return
	}
	p.index = x
	if m := x.Images[0].Manifest; !p.several() && m != nil {
		p.manifest = *m
	}
	for i := range p.images {
		p.images[i].image = x.Images[i] // another compression may be another image
	}
}

// index is the index of images.
func (j *job) index(o *output, images []*registry.Image) *registry.Index {
	x := &registry.Index{Images: images, DockerTypes: o.dockerTypes, Annotations: o.annotated("index", nil)}
	for _, img := range images {
		x.MemberAnnotations = append(x.MemberAnnotations, o.annotated("manifest-descriptor", &img.Config.Platform))
	}
	return x
}

// store keeps the images under their names.
func (j *job) store(ctx context.Context, t *task, o output, images []*registry.Image, names []string) error {
	x := j.index(&o, images)
	stored, err := j.digestNames(ctx, o, x, names)
	if err != nil {
		return err
	}
	for _, img := range images {
		t.item("writing image " + img.ID.String())
		// Some compressions change the layers: then they are new ones.
		if o.unpack || o.compression.ChangesLayers() {
			if err := j.engine.client.Attach(img.Stack); err != nil {
				return err
			}
			if err := j.engine.store.Materialize(registry.WithProgress(ctx, t.transfer), img.Stack); err != nil {
				return fmt.Errorf("unpack image %s: %w", img.ID, err)
			}
		}
	}
	for _, n := range stored {
		t.item("naming to " + n)
	}
	if len(images) > 1 {
		return j.engine.images.PutIndex(ctx, x, stored...)
	}
	return j.engine.images.Put(ctx, x.Images[0], stored...)
}

// digestNames adds the names that have the digest of the manifest or index.
func (j *job) digestNames(ctx context.Context, o output, x *registry.Index, names []string) ([]string, error) {
	var repos []string
	if o.naming.canonical {
		repos = append(repos, names...)
	}
	if o.naming.dangling != "" && (!o.naming.onlyUnnamed || len(names) == 0) {
		repos = append(repos, o.naming.dangling)
	}
	if len(repos) == 0 {
		return names, nil
	}
	desc, err := j.engine.client.Describe(ctx, x)
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

func (j *job) writeOCI(ctx context.Context, t *task, o output, images []*registry.Image, names []string) error {
	t.item("writing " + string(o.kind) + " archive to " + o.dest)
	item := layout.Item{
		Image: images[0], Names: names, Annotations: o.annotated("manifest-descriptor", &images[0].Config.Platform),
		Docker: o.kind == outDocker,
	}
	if len(images) > 1 {
		item = layout.Item{Index: j.index(&o, images), Names: names, Annotations: o.annotated("index-descriptor", nil)}
	}
	ctx = registry.WithProgress(ctx, t.transfer)
	if o.layout {
		return layout.WriteOCIDir(ctx, o.dest, j.engine.client, item)
	}
	return toFile(o.dest, j.app.std.Out, func(w io.Writer) error {
		return layout.WriteOCI(ctx, w, j.engine.client, item)
	})
}

// push sends the images under all of their names, all at once.
func (j *job) push(ctx context.Context, o output, p *product, images []*registry.Image, names []string) error {
	descs, errs := make([]ocispec.Descriptor, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, n := range names {
		wg.Go(func() { // a registry that fails does not keep the others from their image
			errs[i] = j.task("pushing "+n, func(t *task) error {
				opts := registry.PushOptions{Insecure: o.insecure, ByDigest: o.byDigest}
				desc, err := j.pushOne(registry.WithProgress(ctx, t.transfer), o, n, images, opts)
				if err != nil {
					return err
				}
				descs[i] = desc
				t.item("pushed " + n + "@" + desc.Digest.String())
				return nil
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.manifest = descs[len(descs)-1]
	return nil
}

func (j *job) pushOne(ctx context.Context, o output, name string, images []*registry.Image, opts registry.PushOptions) (ocispec.Descriptor, error) {
	if len(images) > 1 {
		return j.engine.client.PushIndex(ctx, name, j.index(&o, images), opts)
	}
	return j.engine.client.Push(ctx, name, images[0], opts)
}

func normalised(names []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil { // checkNames has seen it
			continue
		}
		if s := ref.String(); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// toFile writes the file that the user named, or stdout for "-".
func toFile(dest string, stdout io.Writer, fn func(io.Writer) error) error {
	if dest == "-" {
		return fn(stdout)
	}
	var failed error
	err := files.Write(dest, 0o644, func(w io.Writer) error {
		failed = fn(w)
		return failed
	})
	if err != nil && failed == nil {
		return mistake.New("output: %w", err)
	}
	return err
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

func (j *job) onlyCache() bool { return len(j.outputs) == 1 && j.outputs[0].kind == outCacheOnly }

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
