package assemble

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// Chain is where a line of instructions stands, each of which has a V1 record. Several
// stages may go on from one; it takes one goroutine at a time.
type Chain struct {
	epoch   *time.Time
	stack   snapshot.Stack
	id      snapshot.ChainID
	v1      string
	hist    []ocispec.History
	diffIDs []digest.Digest
	text    *configText
	// extended says that text, and the room behind hist and diffIDs, are another's.
	extended bool
}

// NewChain is the chain of a base image, of which base, stack and v1 are what Input has as
// Base, BaseStack and BaseV1. No record is dated after epoch, if there is one.
func NewChain(base *image.Config, stack snapshot.Stack, v1 string, epoch *time.Time) *Chain {
	c := &Chain{epoch: epoch, stack: stack, id: stack.ChainID(), v1: v1, hist: baseHistory(base, stack), diffIDs: image.RootFS(stack).DiffIDs, text: &configText{}}
	fillTimes(c.hist, stack)
	return c
}

// ID is the id of the last record, or that of the base image; "" if there is none.
func (c *Chain) ID() string { return c.v1 }

// Stack is the file system that the chain ends with.
func (c *Chain) Stack() snapshot.Stack { return c.stack }

// Extend names the records of the instructions that follow, the oldest first. Their ids
// are digests of the record, the layers and the parent, as docker's CreateID makes them;
// so the same build gives the same ids. Errors match errdef.ErrInvalid.
func (c *Chain) Extend(steps []Step) (*Chain, []image.V1Maker, error) {
	if len(steps) == 0 {
		return c, nil, nil
	}
	next := *c
	next.extended = false
	if c.extended {
		next.hist, next.diffIDs, next.text = slices.Clip(c.hist), slices.Clip(c.diffIDs), &configText{}
	}
	c.extended = true
	recs := make([]image.V1Maker, 0, len(steps))
	first := firstCreated(steps, len(c.stack), c.epoch)
	for _, st := range steps {
		if st.Unlisted {
			if err := next.skip(st); err != nil {
				return nil, nil, err
			}
			continue
		}
		rec, err := next.add(st, first)
		if err != nil {
			return nil, nil, err
		}
		recs = append(recs, rec)
	}
	return &next, recs, nil
}

// firstCreated is the time of the first layer above so many others; nil if none has one.
func firstCreated(steps []Step, below int, epoch *time.Time) *time.Time {
	for _, st := range steps {
		for _, l := range st.Stack[min(below, len(st.Stack)):] {
			if created := l.Created.UTC(); !created.IsZero() {
				return notAfter(&created, epoch)
			}
		}
	}
	return nil
}

// add names the record of one instruction. First is the time of what has no other.
func (c *Chain) add(st Step, first *time.Time) (image.V1Maker, error) {
	added, err := c.on(st)
	if err != nil {
		return image.V1Maker{}, err
	}
	if at := lastCreated(c.hist[max(0, len(c.hist)-1):]); at != nil {
		first = at
	}
	for _, h := range stepHistory(st, added) {
		if h.Created == nil {
			h.Created = first
		}
		h.Created = notAfter(h.Created, c.epoch)
		first = h.Created
		c.hist = append(c.hist, h)
	}
	c.lay(st, added)

	rec := &unwritten{
		step: st, left: st.Left, created: first, parent: c.v1, hist: slices.Clip(c.hist), diffIDs: slices.Clip(c.diffIDs),
	}
	if rec.left == nil {
		rec.left = &whole{st.Config}
	}
	for _, l := range added {
		rec.size += l.Size
	}
	c.text.next(rec.left)
	id, err := rec.id(c.text, c.id)
	c.v1 = id
	return image.V1Maker{ID: id, Make: func() image.V1Record { return rec.record(id) }}, err
}

// on returns the layers that an instruction lays on those before.
func (c *Chain) on(st Step) (snapshot.Stack, error) {
	if !isPrefix(c.stack, st.Stack) {
		return nil, fmt.Errorf("assemble image: %w: %q has a file system that is not made on top of the one before", errdef.ErrInvalid, st.CreatedBy)
	}
	added := st.Stack[len(c.stack):]
	if slices.ContainsFunc(added, snapshot.Layer.Unnamed) {
		return nil, errUnnamed
	}
	return added, nil
}

func (c *Chain) lay(st Step, added snapshot.Stack) {
	for _, l := range added {
		c.diffIDs = append(c.diffIDs, digest.Digest(l.DiffID))
		c.id = c.id.With(l.DiffID)
	}
	c.stack = st.Stack
}

// skip takes in an instruction that has no record.
func (c *Chain) skip(st Step) error {
	added, err := c.on(st)
	if err == nil {
		c.lay(st, added)
	}
	return err
}

// V1Records names the records of all instructions of an image, the oldest first.
func V1Records(in Input) ([]image.V1Maker, error) {
	if _, err := newHistory(in); err != nil {
		return nil, err
	}
	_, recs, err := NewChain(in.Base, in.BaseStack, in.BaseV1, in.Epoch).Extend(in.Steps)
	return recs, err
}

// unwritten is what a record is made of, when it is missing.
type unwritten struct {
	step    Step
	left    Configuration
	size    int64
	created *time.Time
	parent  string
	hist    []ocispec.History
	diffIDs []digest.Digest
}

// record makes the record.
func (r *unwritten) record(id string) image.V1Record {
	img := r.left.Image()
	cfg := img.Config
	rec := image.V1Record{
		V1Image: image.V1Image{
			ID: id, Parent: r.parent, Comment: r.step.Comment, Created: r.created, ContainerConfig: cfg,
			Author: img.Author, Config: &cfg, Architecture: img.Architecture, Variant: img.Variant, OS: img.OS, Size: r.size,
		},
		Stack: r.step.Stack,
		Image: img,
	}
	rec.ContainerConfig.Cmd = r.step.command()
	rec.Image.History, rec.Image.Created = r.hist, r.created
	rec.Image.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: r.diffIDs}
	return rec
}

// command is the command of the container that docker would have made the layer with.
func (st *Step) command() []string {
	if st.Cmd == nil {
		return []string{"/bin/sh", "-c", "#(nop) " + strings.TrimSuffix(st.CreatedBy, " # buildkit")}
	}
	return st.Cmd
}

// id is that of the record: the digest of its JSON in the order of its names, which is
// that of docker's CreateID, without the id and with the chain of layers.
func (r *unwritten) id(text *configText, layers snapshot.ChainID) (string, error) {
	c := &text.rest
	w := jsonWriter{to: sha256.New()}
	w.open()
	w.value("Size", r.size, true)
	w.value("architecture", c.Architecture, c.Architecture != "")
	w.value("author", c.Author, c.Author != "")
	w.value("comment", r.step.Comment, r.step.Comment != "")
	w.name("config")
	text.write(&w, c.Config.Cmd)
	w.name("container_config")
	text.write(&w, r.step.command())
	w.value("created", r.created, true)
	w.value("layer_id", layers, true)
	w.value("os", c.OS, c.OS != "")
	w.value("parent", r.parent, r.parent != "")
	w.value("variant", c.Variant, c.Variant != "")
	w.close()
	sum, err := w.sum()
	if err != nil {
		return "", fmt.Errorf("encode v1 record: %w", err)
	}
	return hex.EncodeToString(sum), nil
}
