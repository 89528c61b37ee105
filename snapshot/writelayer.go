package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
)

// WriteOptions refine WriteLayer.
type WriteOptions struct {
	// Dir says that a directory form is needed soon: files are copied into it.
	// Otherwise the layer is streamed into its tar only, and the directory is
	// made when something mounts the layer.
	Dir bool
	// Epoch, Inspect, Tap and Named are as in CommitOptions.
	Epoch   *time.Time
	Inspect Inspector
	Tap     Tap
	Named   bool
}

// WriteLayer makes a layer from a list of changes without mounting anything.
// Changes may come in any order, each path at most once. Parent directories that
// are no changes themselves are taken over from the parent stack. Where
// Entry.Digest is set and the bytes that are read differ, the error names the
// file. A hard link may name any other change of its type that is no
// directory.
func (s *Store) WriteLayer(ctx context.Context, parent Stack, changes []Change, opts WriteOptions) (Layer, error) {
	l, err := s.writeLayer(ctx, parent, changes, opts)
	tell(opts.Tap, l, err)
	if err != nil {
		return Layer{}, fmt.Errorf("write layer: %w", err)
	}
	return l, nil
}

func (s *Store) writeLayer(ctx context.Context, parent Stack, changes []Change, opts WriteOptions) (_ Layer, err error) {
	set := &changeSet{s: s, parent: parent, changes: slices.Clone(changes)}
	if err := set.complete(ctx); err != nil {
		return Layer{}, err
	}
	done, err := lease.Grow(ctx, s.room, set.bytes())
	if err != nil {
		return Layer{}, err
	}
	defer func() { done(err) }()
	tmp, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return Layer{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.RemoveAll(tmp))
		}
	}()
	var out *os.File
	dir := ""
	opts.Dir = opts.Dir && s.driver != DriverCopy // which takes files out of tars too
	if opts.Dir {
		dir = filepath.Join(tmp, dirForm)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return Layer{}, err
		}
	} else {
		if out, err = os.OpenFile(filepath.Join(tmp, tarForm), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return Layer{}, err
		}
		defer out.Close()
	}
	walk := func(_ context.Context, emit func(pack.Item) error) error { return set.walk(dir, opts.Epoch, emit) }
	m := layerMaking{tmp: tmp, out: out, epoch: opts.Epoch, look: opts.Inspect, tap: opts.Tap, named: opts.Named, walk: walk}
	m.settle = func() error {
		if opts.Dir {
			return s.maker.SetRoot(dir, object.Root{Mode: 0o755})
		}
		return nil
	}
	return s.makeLayer(ctx, parent, m)
}

// changeSet is a list of changes on its way into a layer.
type changeSet struct {
	s       *Store
	parent  Stack
	changes []Change
	index   map[string]int // path to position in changes
	linked  map[string]bool
	tree    Tree // of parent; made when needed
}

// bytes is the size of all files.
func (c *changeSet) bytes() int64 {
	var n int64
	for i := range c.changes {
		n += c.changes[i].Entry.Size
	}
	return n
}

// complete sorts and checks the changes, and adds what they imply.
func (c *changeSet) complete(ctx context.Context) error {
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

func (c *changeSet) sort() error {
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

func (c *changeSet) lower(ctx context.Context) (Tree, error) {
	if c.tree == nil {
		t, err := c.s.Outline(ctx, c.parent)
		if err != nil {
			return nil, err
		}
		c.tree = t
	}
	return c.tree, nil
}

// addParents takes missing parent directories over from the parent stack.
func (c *changeSet) addParents(ctx context.Context) error {
	var last string
	for i := range c.changes {
		dir := path.Dir(c.changes[i].Entry.Path)
		if dir == last {
			continue
		}
		last = dir
		for ; dir != "."; dir = path.Dir(dir) {
			if j, ok := c.index[dir]; ok {
				if c.changes[j].Entry.Type != TypeDir {
					return fmt.Errorf("%s is no directory, but %s is below it", dir, c.changes[i].Entry.Path)
				}
				continue
			}
			t, err := c.lower(ctx)
			if err != nil {
				return err
			}
			e, err := t.Lstat(dir)
			if err != nil || e.Type != TypeDir {
				return fmt.Errorf("%s has no parent directory: %w", c.changes[i].Entry.Path, errors.Join(err, fs.ErrNotExist))
			}
			c.index[dir] = len(c.changes)
			c.changes = append(c.changes, Change{Entry: *e})
		}
	}
	return nil
}

// expandOpaque replaces opaque marks by whiteouts of what they hide.
func (c *changeSet) expandOpaque(ctx context.Context) error {
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

func (c *changeSet) hide(t Tree, dir string) error {
	if e, err := t.Lstat(dir); errors.Is(err, fs.ErrNotExist) || (err == nil && e.Type != TypeDir) {
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
			c.changes = append(c.changes, Change{Entry: Entry{Path: e.Path, Type: TypeWhiteout}})
		case e.Type == TypeDir && c.changes[j].Entry.Type == TypeDir:
			if err := c.hide(t, e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// orderLinks makes the first path of every group of hard links the one that has
// the content.
func (c *changeSet) orderLinks() error {
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
		if !ok || j == i || c.changes[j].Entry.Type != e.Type || e.Type == TypeDir || e.Type == TypeWhiteout {
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

// walk emits the changes; dir, unless "", is where the objects are made.
func (c *changeSet) walk(dir string, epoch *time.Time, emit func(pack.Item) error) error {
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
	Entry Entry
	// Open yields the content of a regular file (nil for an empty one, or where
	// HostPath is set).
	Open func() (io.ReadCloser, error)
	// HostPath is a file of this machine that holds exactly the content of the
	// regular file; it lets the store link, reflink or copy it without a detour.
	HostPath string
}
