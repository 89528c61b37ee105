package registry

import (
	"context"
	"fmt"
	"io"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/snapshot"
)

// Shape returns the image with a manifest of the form; what is pushed or saved of
// it has that manifest. The blobs are in the store then.
func (c *Client) Shape(ctx context.Context, img *Image, form Form) (*Image, error) {
	if err := form.Compression.Check(); err != nil {
		return nil, err
	}
	layers, err := c.shapeLayers(ctx, img.Stack, form)
	if err != nil {
		return nil, fmt.Errorf("compress the layers of image %s: %w", img.ID, err)
	}
	if img, err = c.withDiffIDs(img, layers); err != nil {
		return nil, err
	}
	config := ocispec.Descriptor{Digest: img.ID, Size: int64(len(img.RawConfig))}
	desc, raw, err := image.NewManifest(config, layers, form)
	if err != nil {
		return nil, err
	}
	out := *img
	out.Manifest, out.RawManifest = &desc, raw
	return &out, nil
}

// shapeLayers compresses the layers of a stack as the form asks for.
func (c *Client) shapeLayers(ctx context.Context, stack snapshot.Stack, form Form) ([]ocispec.Descriptor, error) {
	layers := make([]ocispec.Descriptor, len(stack))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Parallel)
	for i := range stack {
		group.Go(func() error {
			var err error
			layers[i], err = c.shapeLayer(ctx, stack[:i+1], form)
			return err
		})
	}
	return layers, group.Wait()
}

// CompressLayers compresses the layers of a stack ahead of a Shape or Complete of an
// image that has them, while the rest of it is still being made. With onlyNew, those of
// which no compressed form is known.
func (c *Client) CompressLayers(ctx context.Context, stack snapshot.Stack, form Form, onlyNew bool) error {
	var err error
	if !onlyNew {
		_, err = c.shapeLayers(ctx, stack, form)
	}
	for i, l := range stack {
		if _, known := c.knownBlob(l); onlyNew && !known && err == nil {
			_, err = c.shapeLayer(ctx, stack[:i+1], form)
		}
	}
	if err != nil {
		return fmt.Errorf("compress layers ahead: %w", err)
	}
	return nil
}

func (c *Client) shapeLayer(ctx context.Context, stack snapshot.Stack, form Form) (ocispec.Descriptor, error) {
	l, how, foreign := stack[len(stack)-1], form.Compression, form.Foreign
	imported := c.store.Imported(l)
	if imported {
		known, ok := c.knownBlob(l)
		kept := ok && (!how.Force || how.Level == nil && how.IsForm(known))
		if foreign && ok && mediatype.IsForeign(known) {
			return known, nil
		}
		if kept {
			return known, c.ensureBlob(ctx, stack, known)
		}
		if how.Type == "" {
			return c.LayerBlob(ctx, stack)
		}
	} else if how.IsUsual() {
		return c.LayerBlob(ctx, stack)
	}
	if err := c.Attach(stack); err != nil {
		return ocispec.Descriptor{}, err
	}
	level := "usual"
	if how.Level != nil {
		level = fmt.Sprint(*how.Level)
	}
	name := strings.Join([]string{"blob", string(l.DiffID), how.Type, level}, " ")
	return c.works.once(ctx, name, func() (ocispec.Descriptor, error) {
		desc, err := c.compressTo(ctx, l, io.Discard, how)
		if err != nil {
			return desc, fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		return desc, nil
	})
}

// usual reports whether a blob is the form that a layer has when nothing else is
// asked for. Only that is remembered, lest one push decide on the next.
func (c *Client) usual(l snapshot.Layer, desc ocispec.Descriptor) bool {
	if c.store.Imported(l) {
		return true
	}
	known, ok := c.store.Blob(l)
	return ok && known.Digest == desc.Digest
}

// withDiffIDs returns the image with layers that have other plain contents than
// those of its configuration: the blobs that layers describes, which the store has.
func (c *Client) withDiffIDs(img *Image, layers []ocispec.Descriptor) (*Image, error) {
	changed := false
	var stack snapshot.Stack
	for i, l := range img.Stack {
		diff := l.DiffID
		if d := layers[i].Annotations[compression.AnnotationUncompressed]; d != "" {
			diff = snapshot.DiffID(d)
		}
		changed = changed || diff != l.DiffID
		if changed {
			desc := layers[i]
			desc.Annotations = compression.TOC(desc.Annotations)
			var err error
			if l, err = c.store.AddLazy(stack, snapshot.LazyLayer{DiffID: diff, Blob: desc, Open: c.keptWhole(desc)}); err != nil {
				return nil, err
			}
		}
		stack = append(stack, l)
	}
	if !changed {
		return img, nil
	}
	cfg := img.Config
	cfg.RootFS = image.RootFS(stack)
	out, err := image.New(cfg, stack)
	if err == nil {
		out.V1, out.Names = img.V1, img.Names
	}
	return out, err
}
