package assemble

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
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
	// extended says that the room behind hist and diffIDs is another's.
	extended bool
}

// NewChain is the chain of a base image, of which base, stack and v1 are what Input has as
// Base, BaseStack and BaseV1. No record is dated after epoch, if there is one.
func NewChain(base *image.Config, stack snapshot.Stack, v1 string, epoch *time.Time) *Chain {
	c := &Chain{epoch: epoch, stack: stack, id: stack.ChainID(), v1: v1, hist: baseHistory(base, stack), diffIDs: image.RootFS(stack).DiffIDs}
	fillTimes(c.hist, stack)
	return c
}

// ID is the id of the last record, or that of the base image; "" if there is none.
func (c *Chain) ID() string { return c.v1 }

// Stack is the file system that the chain ends with.
func (c *Chain) Stack() snapshot.Stack { return c.stack }

// Extend makes the records of the instructions that follow, the oldest first. Their ids
// are digests of the record, the layers and the parent, as docker's CreateID makes them;
// so the same build gives the same ids. Errors match errdef.ErrInvalid.
func (c *Chain) Extend(steps []Step) (*Chain, []image.V1Record, error) {
	next := *c
	next.extended = false
	if c.extended {
		next.hist, next.diffIDs = slices.Clip(c.hist), slices.Clip(c.diffIDs)
	}
	c.extended = c.extended || len(steps) > 0
	recs := make([]image.V1Record, 0, len(steps))
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

// add makes the record of one instruction. First is the time of what has no other.
func (c *Chain) add(st Step, first *time.Time) (image.V1Record, error) {
	added, err := c.on(st)
	if err != nil {
		return image.V1Record{}, err
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

	rec := newV1(st, added)
	rec.Created, rec.Parent = first, c.v1
	rec.Image.History = slices.Clip(c.hist)
	rec.Image.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: slices.Clip(c.diffIDs)}
	rec.Image.Created = first
	rec.ID, err = v1ID(rec.V1Image, c.id)
	c.v1 = rec.ID
	return rec, err
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

// V1Records makes the records of all instructions of an image, the oldest first.
func V1Records(in Input) ([]image.V1Record, error) {
	if _, err := newHistory(in); err != nil {
		return nil, err
	}
	_, recs, err := NewChain(in.Base, in.BaseStack, in.BaseV1, in.Epoch).Extend(in.Steps)
	return recs, err
}

func newV1(st Step, added snapshot.Stack) image.V1Record {
	cfg := st.Config.Config
	rec := image.V1Record{
		V1Image: image.V1Image{
			Comment:         st.Comment,
			ContainerConfig: cfg,
			Author:          st.Config.Author,
			Config:          &cfg,
			Architecture:    st.Config.Architecture,
			Variant:         st.Config.Variant,
			OS:              st.Config.OS,
		},
		Stack: st.Stack,
		Image: st.Config,
	}
	for _, l := range added {
		rec.Size += l.Size
	}
	rec.ContainerConfig.Cmd = st.Cmd
	if st.Cmd == nil {
		rec.ContainerConfig.Cmd = []string{"/bin/sh", "-c", "#(nop) " + strings.TrimSuffix(st.CreatedBy, " # buildkit")}
	}
	return rec
}

// hashed is what an id is a digest of: the record in the order of its names, which is that
// of docker's CreateID, without the id and with the chain of layers.
type hashed struct {
	Size            int64                            `json:"Size"`
	Architecture    string                           `json:"architecture,omitempty"`
	Author          string                           `json:"author,omitempty"`
	Comment         string                           `json:"comment,omitempty"`
	Config          *dockerspec.DockerOCIImageConfig `json:"config,omitempty"`
	ContainerConfig *dockerspec.DockerOCIImageConfig `json:"container_config"`
	Created         *time.Time                       `json:"created"`
	DockerVersion   string                           `json:"docker_version,omitempty"`
	LayerID         snapshot.ChainID                 `json:"layer_id"`
	OS              string                           `json:"os,omitempty"`
	Parent          string                           `json:"parent,omitempty"`
	Variant         string                           `json:"variant,omitempty"`
}

func v1ID(v image.V1Image, chain snapshot.ChainID) (string, error) {
	raw, err := json.Marshal(hashed{
		Size: v.Size, Architecture: v.Architecture, Author: v.Author, Comment: v.Comment, Config: v.Config,
		ContainerConfig: &v.ContainerConfig, Created: v.Created, DockerVersion: v.DockerVersion, LayerID: chain,
		OS: v.OS, Parent: v.Parent, Variant: v.Variant,
	})
	if err != nil {
		return "", fmt.Errorf("encode v1 record: %w", err)
	}
	return digest.FromBytes(raw).Encoded(), nil
}
