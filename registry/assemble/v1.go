package assemble

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

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
	last    *time.Time // of the history's last line
	history []byte     // the lines of the history, in JSON, each with a comma behind it
	diffIDs []byte     // in the same way
	config  *configText
	// extended says that config, and the room behind history and diffIDs, are another's.
	extended bool
}

// NewChain is the chain of a base image, of which base, stack and v1 are what Input has as
// Base, BaseStack and BaseV1. No record is dated after epoch, if there is one.
func NewChain(base *image.Config, stack snapshot.Stack, v1 string, epoch *time.Time) *Chain {
	hist := baseHistory(base, stack)
	fillTimes(hist, stack)
	c := &Chain{epoch: epoch, stack: stack, id: stack.ChainID(), v1: v1, config: &configText{}}
	for _, h := range hist {
		c.line(h)
	}
	for _, l := range stack {
		c.diffIDs = append(c.diffIDs, listed(string(l.DiffID))...)
	}
	return c
}

// ID is the id of the last record, or that of the base image; "" if there is none.
func (c *Chain) ID() string { return c.v1 }

// Stack is the file system that the chain ends with.
func (c *Chain) Stack() snapshot.Stack { return c.stack }

// Extend gives the records of the instructions that follow to put, the oldest first. Their
// ids are digests of the record, the layers and the parent, as docker's CreateID makes them;
// so the same build gives the same ids. Errors match errdef.ErrInvalid, or are put's.
func (c *Chain) Extend(steps []Step, put func(image.V1Maker) error) (*Chain, error) {
	if len(steps) == 0 {
		return c, nil
	}
	next := *c
	next.extended = false
	if c.extended {
		next.history, next.diffIDs, next.config = slices.Clip(c.history), slices.Clip(c.diffIDs), &configText{}
	}
	c.extended = true
	first := firstCreated(steps, len(c.stack), c.epoch)
	for _, st := range steps {
		if st.Unlisted {
			if err := next.skip(st); err != nil {
				return nil, err
			}
			continue
		}
		rec, err := next.add(st, first)
		if err == nil {
			err = put(rec)
		}
		if err != nil {
			return nil, err
		}
	}
	return &next, nil
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
	if c.last != nil {
		first = c.last
	}
	for _, h := range stepHistory(st, added) {
		if h.Created == nil {
			h.Created = first
		}
		h.Created = notAfter(h.Created, c.epoch)
		first = h.Created
		c.line(h)
	}
	c.lay(st, added)

	rec := &unwritten{Chain: c, step: st, created: first, parent: c.v1}
	for _, l := range added {
		rec.size += l.Size
	}
	left := st.Left
	if left == nil {
		left = &whole{st.Config}
	}
	c.config.next(left)
	c.v1, err = rec.id()
	return image.V1Maker{ID: c.v1, Encode: rec.encode}, err
}

// line adds a line to the history.
func (c *Chain) line(h ocispec.History) {
	c.last = h.Created
	var w jsonWriter
	w.open()
	w.value("created", h.Created, h.Created != nil)
	w.value("created_by", h.CreatedBy, h.CreatedBy != "")
	w.value("author", h.Author, h.Author != "")
	w.value("comment", h.Comment, h.Comment != "")
	w.value("empty_layer", true, h.EmptyLayer)
	w.close()
	c.history = append(append(c.history, w.buf...), ',')
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
		c.diffIDs = append(c.diffIDs, listed(string(l.DiffID))...)
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

// V1Records gives the records of all instructions of an image to put, the oldest first, and
// returns the id of the last; "" if there is none.
func V1Records(in Input, put func(image.V1Maker) error) (string, error) {
	if _, err := newHistory(in); err != nil {
		return "", err
	}
	id := ""
	_, err := NewChain(in.Base, in.BaseStack, in.BaseV1, in.Epoch).Extend(in.Steps, func(rec image.V1Maker) error {
		id = rec.ID
		return put(rec)
	})
	return id, err
}

// unwritten is a record of the instruction that a chain ends with.
type unwritten struct {
	*Chain
	step    Step
	size    int64
	created *time.Time
	parent  string
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
func (r *unwritten) id() (string, error) {
	c := &r.config.rest
	w := jsonWriter{to: sha256.New()}
	w.open()
	w.value("Size", r.size, true)
	w.value("architecture", c.Architecture, c.Architecture != "")
	w.value("author", c.Author, c.Author != "")
	w.value("comment", r.step.Comment, r.step.Comment != "")
	w.name("config")
	r.config.write(&w, c.Config.Cmd)
	w.name("container_config")
	r.config.write(&w, r.step.command())
	w.value("created", r.created, true)
	w.value("layer_id", r.Chain.id, true)
	w.value("os", c.OS, c.OS != "")
	w.value("parent", r.parent, r.parent != "")
	w.value("variant", c.Variant, c.Variant != "")
	w.close()
	if w.err != nil {
		return "", fmt.Errorf("encode v1 record: %w", w.err)
	}
	w.to.Write(w.buf)
	return hex.EncodeToString(w.to.Sum(nil)), nil
}

// encode returns the record as encoding/json has an image.V1Record.
func (r *unwritten) encode() ([]byte, error) {
	c := &r.config.rest
	var w jsonWriter
	w.open()
	w.value("id", r.v1, true)
	w.value("parent", r.parent, r.parent != "")
	w.value("comment", r.step.Comment, r.step.Comment != "")
	w.value("created", r.created, true)
	w.name("container_config")
	r.config.write(&w, r.step.command())
	w.value("author", c.Author, c.Author != "")
	w.name("config")
	r.config.write(&w, c.Config.Cmd)
	w.value("architecture", c.Architecture, c.Architecture != "")
	w.value("variant", c.Variant, c.Variant != "")
	w.value("os", c.OS, c.OS != "")
	w.value("Size", r.size, true)
	w.value("stack", r.step.Stack, true)
	w.name("image")
	r.image(&w)
	w.close()
	if w.err != nil {
		return nil, fmt.Errorf("encode v1 record: %w", w.err)
	}
	return w.buf, nil
}

// image writes the configuration of the image that the chain ends with.
func (r *unwritten) image(w *jsonWriter) {
	c := &r.config.rest
	w.open()
	w.value("created", r.created, r.created != nil)
	w.value("author", c.Author, c.Author != "")
	w.value("architecture", c.Architecture, true)
	w.value("os", c.OS, true)
	w.value("os.version", c.OSVersion, c.OSVersion != "")
	w.value("os.features", c.OSFeatures, len(c.OSFeatures) > 0)
	w.value("variant", c.Variant, c.Variant != "")
	w.name("rootfs")
	w.open()
	w.value("type", "layers", true)
	w.list("diff_ids", r.diffIDs)
	w.close()
	if len(r.history) > 0 {
		w.list("history", r.history)
	}
	w.name("config")
	r.config.write(w, c.Config.Cmd)
	w.close()
}
