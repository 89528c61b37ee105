// Package changes makes a list of changes to a file tree complete, so that a layer can be made
// of it without mounting anything.
package changes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tree"
)

// Set is a list of changes on its way into a layer.
type Set struct {
	below   func(context.Context) (tree.Tree, error)
	changes []Change
	index   map[string]int // path to position in changes
	linked  map[string]bool
	tree    tree.Tree // what below returned; made when needed
}

// New makes a Set of changes, in any order, each path at most once. Below is called at most
// once, if it must be known what the changes are made to.
func New(list []Change, below func(context.Context) (tree.Tree, error)) *Set {
	return &Set{below: below, changes: slices.Clone(list)}
}

// Bytes is the size of all files.
func (c *Set) Bytes() int64 {
	var n int64
	for i := range c.changes {
		n += c.changes[i].Entry.Size
	}
	return n
}

// Complete sorts and checks the changes, and adds what they imply: parent directories that
// are no changes themselves are taken over from below. It is called once, before Walk.
func (c *Set) Complete(ctx context.Context) error {
	if err := c.sort(); err != nil {
		return err
	}
	n := len(c.changes)
	if err := c.addParents(ctx); err != nil {
		return err
	}
	if err := c.expandOpaque(ctx); err != nil {
		return err
	}
	if len(c.changes) != n {
		if err := c.sort(); err != nil {
			return err
		}
	}
	return c.orderLinks()
}

func (c *Set) sort() error {
	byPath := func(a, b Change) int { return manifest.ComparePaths(a.Entry.Path, b.Entry.Path) }
	if !slices.IsSortedFunc(c.changes, byPath) {
		slices.SortFunc(c.changes, byPath)
	}
	c.index = make(map[string]int, len(c.changes))
	for i := range c.changes {
		e := &c.changes[i].Entry
		if !manifest.ValidPath(e.Path) || e.Path == "." {
			return fmt.Errorf("bad path %q", e.Path)
		}
		if _, ok := c.index[e.Path]; ok {
			return fmt.Errorf("%s is changed twice", e.Path)
		}
		c.index[e.Path] = i
	}
	return nil
}

func (c *Set) lower(ctx context.Context) (tree.Tree, error) {
	if c.tree == nil {
		t, err := c.below(ctx)
		if err != nil {
			return nil, err
		}
		c.tree = t
	}
	return c.tree, nil
}

// addParents takes missing parent directories over from the parent stack.
func (c *Set) addParents(ctx context.Context) error {
	var last string
	for i := range c.changes {
		dir := path.Dir(c.changes[i].Entry.Path)
		if dir == last {
			continue
		}
		last = dir
		for ; dir != "."; dir = path.Dir(dir) {
			if j, ok := c.index[dir]; ok {
				if c.changes[j].Entry.Type != manifest.TypeDir {
					return fmt.Errorf("%s is no directory, but %s is below it", dir, c.changes[i].Entry.Path)
				}
				continue
			}
			t, err := c.lower(ctx)
			if err != nil {
				return err
			}
			e, err := t.Lstat(dir)
			if err != nil || e.Type != manifest.TypeDir {
				return fmt.Errorf("%s has no parent directory: %w", c.changes[i].Entry.Path, errors.Join(err, fs.ErrNotExist))
			}
			c.index[dir] = len(c.changes)
			c.changes = append(c.changes, Change{Entry: *e})
		}
	}
	return nil
}

// expandOpaque replaces opaque marks by whiteouts of what they hide.
func (c *Set) expandOpaque(ctx context.Context) error {
	for i := range c.changes {
		if e := &c.changes[i].Entry; e.Opaque {
			e.Opaque = false
			t, err := c.lower(ctx)
			if err != nil {
				return err
			}
			if err := c.hide(t, e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Set) hide(t tree.Tree, dir string) error {
	if e, err := t.Lstat(dir); errors.Is(err, fs.ErrNotExist) || (err == nil && e.Type != manifest.TypeDir) {
		return nil
	}
	es, err := t.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range es {
		j, ok := c.index[e.Path]
		switch {
		case !ok:
			c.index[e.Path] = len(c.changes)
			c.changes = append(c.changes, Change{Entry: manifest.Entry{Path: e.Path, Type: manifest.TypeWhiteout}})
		case e.Type == manifest.TypeDir && c.changes[j].Entry.Type == manifest.TypeDir:
			if err := c.hide(t, e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// orderLinks makes the first path of every group of hard links the one that has
// the content.
func (c *Set) orderLinks() error {
	c.linked = map[string]bool{}
	moved := map[string]string{} // a target that is a link now, to its new first
	for i := range c.changes {
		e := &c.changes[i].Entry
		if e.Hardlink == "" {
			continue
		}
		target := e.Hardlink
		if first, ok := moved[target]; ok {
			target = first
		}
		j, ok := c.index[target]
		if !ok || j == i || c.changes[j].Entry.Type != e.Type || e.Type == manifest.TypeDir || e.Type == manifest.TypeWhiteout {
			return fmt.Errorf("hard link %s: %q is no object of this layer and its type", e.Path, e.Hardlink)
		}
		if j > i {
			first := c.changes[j]
			own := e.Path
			c.changes[j].Entry.Hardlink, c.changes[j].Open, c.changes[j].HostPath = own, nil, ""
			first.Entry.Path = own
			c.changes[i] = first
			moved[target], target = own, own
		} else if i > j {
			e.Hardlink = target
		}
		if c.changes[c.index[target]].Entry.Hardlink != "" {
			return fmt.Errorf("hard link %s: %q is a hard link too", e.Path, target)
		}
		c.linked[target] = true
	}
	return nil
}

// Walk emits the changes, parents first; dir, unless "", is where the objects are made.
func (c *Set) Walk(dir string, epoch *time.Time, emit func(pack.Item) error) error {
	for i := range c.changes {
		ch := &c.changes[i]
		it := pack.Item{Record: manifest.Record{Entry: ch.Entry}, Host: ch.HostPath, Open: ch.Open, Want: ch.Entry.Digest, Linked: c.linked[ch.Entry.Path]}
		if err := pack.Normalize(&it.Record.Entry, epoch); err != nil {
			return err
		}
		if dir != "" {
			it.Dest = dir + "/" + ch.Entry.Path
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// Change is one entry of a layer that is being made.
type Change struct {
	Entry manifest.Entry
	// Open yields the content of a regular file (nil for an empty one, or where
	// HostPath is set).
	Open func() (io.ReadCloser, error)
	// HostPath is a file of this machine that holds exactly the content of the
	// regular file; it lets the store link, reflink or copy it without a detour.
	HostPath string
}
