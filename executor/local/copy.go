package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/moby/patternmatcher"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// copier does one Copy: it computes the changes, and reads no file. The rules are
// those of BuildKit's file backend and of fsutil's copy.
type copier struct {
	*dag.Copy
	to      *draft
	from    snapshot.Tree
	reads   []string // as executor.Result
	owner   *owner   // nil: as at the source
	mode    *modeChange
	exclude *patternmatcher.PatternMatcher
	now     time.Time
	unpack  func(ctx context.Context, m match, dest string) (bool, error)

	links map[string]string // hard links of one source: the group's name to the first copy
}

func newCopier(c *dag.Copy, to *draft, from snapshot.Tree, now time.Time) (*copier, error) {
	cp := &copier{Copy: c, to: to, from: from, now: now}
	var err error
	if cp.mode, err = parseMode(c.Mode); err != nil {
		return nil, err
	}
	if c.Owner != nil {
		o, unknown, err := resolveOwner(to, c.Owner)
		if err != nil {
			return nil, fmt.Errorf("chown: %w", err)
		}
		cp.owner = &o
		to.found.unknownOwner(unknown, o)
	}
	return cp, cp.compileExcludes()
}

func (c *copier) compileExcludes() (err error) {
	if len(c.Excludes) > 0 {
		if c.exclude, err = patternmatcher.New(c.Excludes); err != nil {
			return fmt.Errorf("exclude: %w", err)
		}
	}
	return nil
}

// run copies all sources.
func (c *copier) run(ctx context.Context) error {
	ms, err := newFinder(c.Copy, c.from, c.reads).matches()
	if err != nil {
		return err
	}
	if c.Parents { // the destination exists, even if nothing is copied
		if _, err := c.makeDirs(c.Dest); err != nil {
			return err
		}
	}
	c.to.found.several = c.to.found.several || len(ms) > 1
	for _, m := range ms {
		c.to.found.begin(m, c.Dest)
		if err := c.one(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// makeDirs makes a directory of the destination and returns where it really is.
func (c *copier) makeDirs(p string) (string, error) {
	real, err := snapshot.ResolvePath(c.to, p, true)
	if err != nil {
		return "", err
	}
	mode := uint32(0o755)
	if c.mode != nil && c.mode.octal {
		mode = c.mode.value & 0o777
	}
	return real, c.to.mkdirAll(real, newDirs{mode: mode, owner: c.owner, at: c.now})
}

func (c *copier) one(ctx context.Context, m match) error {
	c.links = map[string]string{}
	if c.Unpack {
		if done, err := c.unpack(ctx, m, c.Dest); done || err != nil {
			return err
		}
	}
	src, err := c.from.Lstat(m.real)
	if err != nil {
		return err
	}
	if c.Parents {
		return c.withParents(ctx, m, src)
	}
	ensure := c.Dest
	if !strings.HasSuffix(ensure, "/") {
		ensure = path.Dir(ensure)
	}
	if _, err := c.makeDirs(ensure); err != nil {
		return err
	}
	dest, err := snapshot.ResolvePath(c.to, c.Dest, true)
	if err != nil {
		return err
	}
	was, err := c.to.Lstat(dest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if src.Type != snapshot.TypeDir {
		if was != nil && was.Type == snapshot.TypeDir {
			dest = path.Join(dest, path.Base(m.name))
		}
		return c.tree(ctx, m, src, dest, nil)
	}
	if was == nil {
		if _, err := c.makeDirs(dest); err != nil {
			return err
		}
	} else if was.Type != snapshot.TypeDir {
		return fmt.Errorf("cannot copy a directory to /%s: it is not a directory", dest)
	}
	return c.children(ctx, m, src, dest, nil)
}

// withParents copies a match to its own path below the destination.
func (c *copier) withParents(ctx context.Context, m match, src *snapshot.Entry) error {
	dest, err := snapshot.ResolvePath(c.to, c.Dest, true)
	if err != nil {
		return err
	}
	if m.rel == "" {
		return c.children(ctx, m, src, dest, nil)
	}
	var pending []*pendingDir
	parts := strings.Split(m.rel, "/")
	for i := 1; i < len(parts); i++ {
		below := path.Join(parts[:i]...)
		dir, err := c.from.Lstat(path.Join(m.root, below))
		if err != nil {
			return err
		}
		pending = append(pending, &pendingDir{src: dir, dest: path.Join(dest, below), keep: true})
	}
	return c.tree(ctx, m, src, path.Join(dest, m.rel), pending)
}

// pendingDir is a directory that is made once something below it is copied.
type pendingDir struct {
	src  *snapshot.Entry
	dest string
	keep bool // leave one that exists as it is
	done bool
}

// tree copies an object and all below it.
func (c *copier) tree(ctx context.Context, m match, src *snapshot.Entry, dest string, pending []*pendingDir) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	excluded, err := c.excluded(m, src.Path)
	if err != nil {
		return err
	}
	if src.Type == snapshot.TypeDir {
		if excluded && !c.exclude.Exclusions() {
			return nil
		}
		pending = append(pending[:len(pending):len(pending)], &pendingDir{src: src, dest: dest})
		if !excluded {
			if err := c.makePending(pending); err != nil {
				return err
			}
		}
		return c.children(ctx, m, src, dest, pending)
	}
	if excluded {
		return nil
	}
	if err := c.makePending(pending); err != nil {
		return err
	}
	return c.file(src, dest)
}

func (c *copier) children(ctx context.Context, m match, src *snapshot.Entry, dest string, pending []*pendingDir) error {
	entries, err := c.from.ReadDir(src.Path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.tree(ctx, m, e, path.Join(dest, path.Base(e.Path)), pending); err != nil {
			return err
		}
	}
	return nil
}

// excluded matches the Excludes against a path below the match's root.
func (c *copier) excluded(m match, p string) (bool, error) {
	if c.exclude == nil || p == m.root {
		return false, nil
	}
	rel := p
	if m.root != "." {
		rel = strings.TrimPrefix(p, m.root+"/")
	}
	var hit bool
	var info patternmatcher.MatchInfo
	for i := 0; i <= len(rel); i++ {
		if i < len(rel) && rel[i] != '/' {
			continue
		}
		var err error
		if hit, info, err = c.exclude.MatchesUsingParentResults(rel[:i], info); err != nil {
			return false, fmt.Errorf("exclude: %w", err)
		}
	}
	return hit, nil
}

func (c *copier) makePending(dirs []*pendingDir) error {
	for _, d := range dirs {
		if d.done {
			continue
		}
		d.done = true
		was, err := c.to.Lstat(d.dest)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if was != nil && was.Type != snapshot.TypeDir {
			return fmt.Errorf("cannot copy a directory to /%s: it is not a directory", d.dest)
		}
		if was != nil && d.keep {
			continue
		}
		e := c.entry(d.src, d.dest)
		if was != nil {
			e.Opaque = was.Opaque
			c.to.put(e, nil)
		} else {
			c.to.mkdir(e)
		}
	}
	return nil
}

// entry is what a source looks like at its destination.
func (c *copier) entry(src *snapshot.Entry, dest string) snapshot.Entry {
	e := *src
	e.Path, e.Hardlink, e.Opaque = dest, "", false
	if c.owner != nil {
		e.UID, e.GID = c.owner.uid, c.owner.gid
	}
	if e.Type != snapshot.TypeSymlink {
		e.Mode = c.mode.apply(e.Mode, e.Type == snapshot.TypeDir)
	}
	return e
}

// file copies what is no directory.
func (c *copier) file(src *snapshot.Entry, dest string) error {
	was, err := c.to.Lstat(dest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if was != nil && was.Type == snapshot.TypeDir {
		return fmt.Errorf("cannot replace the directory /%s with a file", dest)
	}
	e := c.entry(src, dest)
	if e.Type != snapshot.TypeFile {
		c.to.put(e, nil)
		return nil
	}
	if e.Digest == "" {
		d, err := c.from.Digest(src.Path)
		if err == nil { // a file that grows has another size now
			src, err = c.from.Lstat(src.Path)
		}
		if err != nil {
			return err
		}
		e = c.entry(src, dest)
		e.Digest = d
	}
	from, p := c.from, src.Path
	if t, ok := from.(interface{ WillOpen(path string) }); ok {
		t.WillOpen(p)
	}
	open := func() (io.ReadCloser, error) { return from.Open(p) }
	if first, ok := c.sameFile(src, dest); ok && c.to.link(first, e, open) {
		return nil
	}
	c.to.put(e, open)
	return nil
}

// sameFile finds the copy of another hard link to the same file.
func (c *copier) sameFile(src *snapshot.Entry, dest string) (string, bool) {
	var group string
	if t, ok := c.from.(snapshot.SameFiler); ok {
		if group = t.SameFile(src.Path); group == "" {
			return "", false
		}
	} else if group = src.Hardlink; group == "" {
		group = src.Path
	}
	first, ok := c.links[group]
	if !ok {
		c.links[group] = dest
	}
	return first, ok
}
