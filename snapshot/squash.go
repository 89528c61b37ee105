package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Squash makes one layer that has the effect of several on top of parent: what one
// of them adds and a later one removes is not in it. Hard links are kept among the
// files of one of the layers.
func (s *Store) Squash(ctx context.Context, parent, layers Stack, epoch *time.Time) (Layer, error) {
	l, err := s.squash(ctx, parent, layers, epoch)
	if err != nil {
		return Layer{}, fmt.Errorf("squash %d layers: %w", len(layers), err)
	}
	return l, nil
}

func (s *Store) squash(ctx context.Context, parent, layers Stack, epoch *time.Time) (Layer, error) {
	q := &squasher{links: map[linkGroup]string{}}
	for i, l := range layers {
		if err := q.layer(ctx, s, i, l); err != nil {
			return Layer{}, err
		}
	}
	var err error
	if q.below, err = s.Tree(ctx, parent); err != nil {
		return Layer{}, err
	}
	if q.merged, err = s.Tree(ctx, slices.Concat(parent, layers)); err != nil {
		return Layer{}, err
	}
	if err := q.collect(&q.root, "", false); err != nil {
		return Layer{}, err
	}
	return s.WriteLayer(ctx, parent, q.changes, WriteOptions{Epoch: epoch})
}

// squashed is one path that the layers touch.
type squashed struct {
	children map[string]*squashed
	entry    *Entry // nil: only something below it is touched, or it is hidden
	layer    int
	hidden   bool // a whiteout
}

// linkGroup is a set of hard links: the layer that has them, and the first one.
type linkGroup struct {
	layer int
	first string
}

type squasher struct {
	root          squashed
	below, merged Tree
	links         map[linkGroup]string // the path that stands for the group
	changes       []Change
}

// layer applies one more layer.
func (q *squasher) layer(ctx context.Context, s *Store, number int, l Layer) error {
	m, err := s.Manifest(ctx, l)
	if err != nil {
		return err
	}
	defer m.Close()
	for {
		e, err := m.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		q.find(e.Path).apply(e, number)
	}
}

// find returns the place of a path, which is made if it is new.
func (q *squasher) find(p string) *squashed {
	n := &q.root
	if p == "." {
		return n
	}
	for name := range strings.SplitSeq(p, "/") {
		next := n.children[name]
		if next == nil {
			if n.children == nil {
				n.children = map[string]*squashed{}
			}
			next = &squashed{}
			n.children[name] = next
		}
		n = next
	}
	return n
}

func (n *squashed) apply(e *Entry, layer int) {
	was := *n
	switch {
	case e.Type == TypeWhiteout:
		*n = squashed{hidden: true}
		return
	case e.Type != TypeDir:
		*n = squashed{}
	case e.Opaque:
		n.children = nil
	}
	c := *e
	if e.Type == TypeDir {
		// What the lower layers have here stays hidden if it was hidden before.
		c.Opaque = e.Opaque || was.hidden || was.entry != nil && (was.entry.Opaque || was.entry.Type != TypeDir)
	}
	n.entry, n.layer, n.hidden = &c, layer, false
}

// collect lists what is left, in order; covered says that a directory above hides
// what parent has.
func (q *squasher) collect(n *squashed, p string, covered bool) error {
	if n.hidden && covered {
		return nil
	}
	if n.hidden {
		_, err := q.below.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		q.changes = append(q.changes, Change{Entry: Entry{Path: p, Type: TypeWhiteout}})
		return err
	}
	if n.entry != nil && p != "" {
		q.changes = append(q.changes, q.change(n, p))
		covered = covered || n.entry.Opaque
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		if err := q.collect(n.children[name], path.Join(p, name), covered); err != nil {
			return err
		}
	}
	return nil
}

func (q *squasher) change(n *squashed, p string) Change {
	c := Change{Entry: *n.entry}
	c.Entry.Path = p
	if c.Entry.Type == TypeDir {
		return c
	}
	group := linkGroup{n.layer, p}
	if c.Entry.Hardlink != "" {
		group.first = c.Entry.Hardlink
	}
	if first, ok := q.links[group]; ok {
		c.Entry.Hardlink = first
		return c
	}
	q.links[group] = p
	if c.Entry.Hardlink = ""; c.Entry.Type != TypeFile {
		return c
	}
	c.Open = func() (io.ReadCloser, error) { return q.merged.Open(p) }
	return c
}
