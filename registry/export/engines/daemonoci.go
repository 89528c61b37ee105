package engines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/snapshot"
)

// keepsManifests reports whether the engine has images as containerd's store has
// them, by manifest, which docker does by itself since version 29.
func (d *daemonClient) keepsManifests(ctx context.Context) bool {
	var info struct{ DriverStatus [][]any }
	if err := d.get(ctx, "/info", &info); err != nil {
		return false // what is wrong will be seen
	}
	return slices.ContainsFunc(info.DriverStatus, func(pair []any) bool {
		return len(pair) == 2 && pair[0] == "driver-type" && pair[1] == "io.containerd.snapshotter.v1"
	})
}

// whole reports whether the engine has an image with all of its blobs.
func (d *daemonClient) whole(ctx context.Context, manifest digest.Digest) (bool, error) {
	var doc struct {
		Manifests []struct{ Available bool }
	}
	err := d.get(ctx, "/images/"+manifest.String()+"/json?manifests=1", &doc)
	var said *daemonError
	if errors.As(err, &said) && said.status == http.StatusNotFound {
		return false, nil
	}
	return len(doc.Manifests) > 0 && doc.Manifests[0].Available, err
}

// giveOCI loads an image into an engine that keeps manifests: as an OCI layout without
// the layers that it has in other images. Whether it has them in the same compressed
// form is only seen afterwards; until then the image has no name there.
func (d *daemonClient) giveOCI(ctx context.Context, c *registry.Client, it layout.Item) (sent int, err error) {
	src, err := c.LazySource(ctx, &registry.Index{Images: []*registry.Image{it.Image}})
	if err != nil {
		return 0, err
	}
	raw, desc, err := src.Manifest(ctx, ocispec.Descriptor{})
	if err != nil {
		return 0, err
	}
	there, err := d.whole(ctx, desc.Digest)
	if err == nil && !there {
		sent, err = d.sendLacking(ctx, src, raw, desc.Digest, it.Image.Stack)
	}
	if err != nil {
		return sent, err
	}
	for _, n := range it.Names {
		if err := d.tag(ctx, desc.Digest, n); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendLacking sends what the engine seems to lack, and if it lacks more, all.
func (d *daemonClient) sendLacking(ctx context.Context, src registry.Source, raw []byte, manifest digest.Digest, stack snapshot.Stack) (int, error) {
	chains, err := d.chains(ctx)
	if err != nil {
		return 0, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != len(stack) {
		return 0, fmt.Errorf("manifest %s: %w: it does not belong to the image", manifest, registry.ErrInvalid)
	}
	has := map[digest.Digest]bool{}
	for i, l := range m.Layers {
		if chains[digest.Digest(stack[:i+1].ChainID())] {
			has[l.Digest] = true
		}
	}
	if len(has) > 0 {
		err := d.sendLayout(ctx, src, has)
		var said *daemonError
		if err == nil {
			there, err := d.whole(ctx, manifest)
			if err != nil || there {
				return len(stack) - len(has), err
			}
		} else if !errors.As(err, &said) {
			return len(stack) - len(has), err
		}
	}
	return len(stack), d.sendLayout(ctx, src, nil)
}

func (d *daemonClient) sendLayout(ctx context.Context, src registry.Source, has map[digest.Digest]bool) error {
	return d.post(ctx, func(ctx context.Context, w io.Writer) error {
		dst, err := layout.NewLayoutTar(w, "")
		if err != nil {
			return err
		}
		_, err = registry.Copy(ctx, without{dst, has}, src, registry.CopyOptions{})
		return errors.Join(err, dst.Close())
	})
}

// without is a layout that lacks some blobs.
type without struct {
	*layout.LayoutWriter
	has map[digest.Digest]bool
}

// Blob implements registry.Destination.
func (w without) Blob(ctx context.Context, desc ocispec.Descriptor, src registry.Source) error {
	if w.has[desc.Digest] {
		return nil
	}
	return w.LayoutWriter.Blob(ctx, desc, src)
}
