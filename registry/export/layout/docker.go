package layout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/registry"
	"layered.build/builder/registry/progress"
	"layered.build/builder/snapshot"
)

// dockerImage is one element of a docker archive's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteDocker writes what docker save does: manifest.json, repositories,
// configurations, and uncompressed layers in folders of their own.
func WriteDocker(ctx context.Context, w io.Writer, c *registry.Client, items ...Item) error {
	return WriteDockerPart(ctx, w, c, func(snapshot.ChainID) bool { return false }, items...)
}

// WriteDockerPart is WriteDocker without the layers of which skip is true, by what is
// below them: for an engine that has them. What is skipped is not fetched either.
func WriteDockerPart(ctx context.Context, w io.Writer, c *registry.Client, skip func(snapshot.ChainID) bool, items ...Item) error {
	tw := tar.NewWriter(w)
	d := &dockerWriter{c: c, s: tarSink{tw}, skip: skip, seen: map[string]bool{}, repos: map[string]map[string]string{}}
	if err := d.write(ctx, items); err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	return tw.Close()
}

type dockerWriter struct {
	c     *registry.Client
	s     Sink
	skip  func(snapshot.ChainID) bool
	seen  map[string]bool
	repos map[string]map[string]string
}

func (d *dockerWriter) write(ctx context.Context, items []Item) error {
	var images []dockerImage
	for _, it := range items {
		img, err := d.image(ctx, it)
		if err != nil {
			return err
		}
		images = append(images, *img)
	}
	raw, err := json.Marshal(images)
	if err != nil {
		return err
	}
	if err := small(d.s, "manifest.json", raw); err != nil {
		return err
	}
	if len(d.repos) == 0 {
		return nil
	}
	if raw, err = json.Marshal(d.repos); err != nil {
		return err
	}
	return small(d.s, "repositories", raw)
}

func (d *dockerWriter) image(ctx context.Context, it Item) (*dockerImage, error) {
	img := it.Image
	if it.Index != nil {
		return nil, fmt.Errorf("%w: a docker archive holds an image for one platform only, not for %d", registry.ErrInvalid, len(it.Index.Images))
	}
	if err := d.c.Attach(img.Stack); err != nil {
		return nil, err
	}
	if len(img.Stack) > 0 && !d.skip(img.Stack[:1].ChainID()) { // otherwise the layers below may never be needed
		if err := d.c.Store().Materialize(ctx, img.Stack); err != nil {
			return nil, err
		}
	}
	out := &dockerImage{Config: img.ID.Encoded() + ".json", Layers: []string{}}
	parent := ""
	for i := range img.Stack {
		id := layerFolder(img.Stack[:i+1])
		if d.skip(img.Stack[:i+1].ChainID()) {
			out.Layers, parent = append(out.Layers, id+"/layer.tar"), id
			continue
		}
		if err := d.layer(ctx, id, parent, img.Stack[i], img); err != nil {
			return nil, fmt.Errorf("layer %s: %w", img.Stack[i].DiffID, err)
		}
		out.Layers = append(out.Layers, id+"/layer.tar")
		parent = id
	}
	if !d.seen[out.Config] {
		d.seen[out.Config] = true
		if err := small(d.s, out.Config, img.RawConfig); err != nil {
			return nil, err
		}
	}
	return out, d.names(out, it.Names, parent)
}

func (d *dockerWriter) names(out *dockerImage, names []string, top string) error {
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return err
		}
		if ref.Tag == "" || slices.Contains(out.RepoTags, ref.Familiar()) {
			continue // docker archives know no digests
		}
		tag := ref.Tag
		ref.Digest = ""
		out.RepoTags = append(out.RepoTags, ref.Familiar())
		ref.Tag = ""
		if d.repos[ref.Familiar()] == nil {
			d.repos[ref.Familiar()] = map[string]string{}
		}
		d.repos[ref.Familiar()][tag] = top
	}
	return nil
}

// layerFolder names a layer by everything below it, as v1 ids do.
func layerFolder(stack snapshot.Stack) string {
	return digest.FromString("layer " + string(stack.ChainID())).Encoded()
}

func (d *dockerWriter) layer(ctx context.Context, id, parent string, l snapshot.Layer, img *registry.Image) error {
	if d.seen[id] {
		return nil
	}
	d.seen[id] = true
	if err := d.s.Dir(id); err != nil {
		return err
	}
	if err := small(d.s, id+"/VERSION", []byte("1.0")); err != nil {
		return err
	}
	v1, err := json.Marshal(registry.V1Image{ID: id, Parent: parent, Created: img.Config.Created, OS: img.Config.OS, Architecture: img.Config.Architecture, Size: l.Size})
	if err != nil {
		return err
	}
	if err := small(d.s, id+"/json", v1); err != nil {
		return err
	}
	size, err := LayerSize(ctx, d.c, l)
	if err != nil {
		return err
	}
	r, err := d.c.Store().Tar(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	seen := &progress.Writer{W: io.Discard, To: progress.Of(ctx), Item: progress.Item(digest.Digest(l.DiffID)), Total: size}
	return d.s.File(id+"/layer.tar", size, io.TeeReader(ctxReader{ctx, r}, seen))
}

// LayerSize returns the length of a layer's tar. A stack from a record may be older
// than what the store knows; a layer of unknown length is read to count it.
func LayerSize(ctx context.Context, c *registry.Client, l snapshot.Layer) (int64, error) {
	if known, err := c.Store().Layer(l.ID); err == nil && known.DiffID == l.DiffID && known.Size > 0 {
		return known.Size, nil
	}
	r, err := c.Store().Tar(ctx, l)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.Copy(io.Discard, ctxReader{ctx, r})
}
