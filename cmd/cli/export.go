package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"layered.build/builder/executor"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
)

// checkNames refuses names that are no image references, before the build.
func checkNames(tags []string, outs []output) error {
	for _, o := range outs {
		tags = append(tags, o.names...)
	}
	for _, t := range tags {
		ref, err := registry.ParseReference(t)
		if err != nil {
			return usagef("%w", err)
		}
		if ref.Digest != "" {
			return usagef("the name %q has a digest, which a new image cannot promise", t)
		}
	}
	return nil
}

// export makes the images and writes them where the outputs say.
func (j *job) export(ctx context.Context, results []executor.Result) ([]built, error) {
	var imgs []built
	err := j.task("exporting to image", func(t *task) error {
		var err error
		if imgs, err = j.assemble(ctx, results); err != nil {
			return err
		}
		if _, err := j.record(ctx, j.plan.Stages); err != nil {
			return err
		}
		for _, o := range j.outputs {
			if err := j.write(ctx, t, o, &imgs[0]); err != nil {
				return err
			}
		}
		return nil
	})
	return imgs, err
}

// write does one output.
func (j *job) write(ctx context.Context, t *task, o output, b *built) error {
	names := normalised(append(append([]string(nil), j.flags.tags...), o.names...))
	switch o.kind {
	case outCacheOnly:
		return nil
	case outTar:
		return toFile(o.dest, j.app.std.Out, func(w io.Writer) error {
			return writeTree(ctx, w, j.engine.store, b.image.Stack)
		})
	case outOCI, outDocker:
		t.item("writing " + string(o.kind) + " archive to " + o.dest)
		item := export.Item{Image: b.image, Names: names}
		return toFile(o.dest, j.app.std.Out, func(w io.Writer) error {
			if o.kind == outOCI {
				return export.WriteOCI(ctx, w, j.engine.client, item)
			}
			return export.WriteDocker(ctx, w, j.engine.client, item)
		})
	}
	if err := j.engine.images.Put(ctx, b.image, names...); err != nil {
		return err
	}
	t.item("writing image " + b.image.ID.String())
	for _, n := range names {
		t.item("naming to " + n)
	}
	b.names = append(b.names, names...)
	if o.push {
		return j.push(ctx, b, names)
	}
	return nil
}

// push sends the image under all of its names.
func (j *job) push(ctx context.Context, b *built, names []string) error {
	for _, n := range names {
		err := j.task("pushing "+n, func(t *task) error {
			desc, err := j.engine.client.Push(ctx, n, b.image, registry.PushOptions{Progress: t.transfer})
			b.manifest = desc.Digest
			if err == nil {
				t.item("pushed " + n + "@" + desc.Digest.String())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
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

// toFile writes a file by way of a temporary one, or stdout for "-".
func toFile(dest string, stdout io.Writer, fn func(io.Writer) error) error {
	if dest == "-" {
		return fn(stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(dest), ".part-*")
	if err != nil {
		return usagef("output: %w", err)
	}
	err = errors.Join(fn(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), dest)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// finish writes what scripts read: the id on stdout or in a file, the metadata.
func (j *job) finish(imgs []built) error {
	b := imgs[0]
	if j.flags.quiet && !j.onlyCache() {
		if _, err := fmt.Fprintln(j.app.std.Out, b.image.ID); err != nil {
			return err
		}
	}
	if j.flags.iidfile != "" {
		if err := os.WriteFile(j.flags.iidfile, []byte(b.image.ID), 0o644); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if j.flags.metadataFile == "" {
		return nil
	}
	return j.writeMetadata(b)
}

func (j *job) onlyCache() bool { return len(j.outputs) == 1 && j.outputs[0].kind == outCacheOnly }

// writeMetadata writes --metadata-file with buildx's keys.
func (j *job) writeMetadata(b built) error {
	meta := map[string]any{"containerimage.config.digest": b.image.ID}
	if b.manifest != "" {
		meta["containerimage.digest"] = b.manifest
	} else if b.image.Manifest != nil {
		meta["containerimage.digest"] = b.image.Manifest.Digest
	} else {
		meta["containerimage.digest"] = b.image.ID
	}
	if len(b.names) > 0 {
		meta["image.name"] = b.names[0]
	}
	data, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(j.flags.metadataFile, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}
