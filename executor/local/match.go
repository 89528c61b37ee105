package local

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// match is one object that a Copy's source means.
type match struct {
	// name is the path as it was given or matched; its last component names the
	// copy.
	name string
	// real is the path without symlinks.
	real string
	// root is what Excludes are relative to: real, or with Parents the pivot.
	root string
	// rel is the path below root ("" without Parents): it is kept at the
	// destination.
	rel string
}

// finder finds what a Copy's sources mean.
type finder struct {
	*dag.Copy
	tree  snapshot.Tree
	reads []string // as executor.Result
}

func newFinder(c *dag.Copy, t snapshot.Tree, reads []string) *finder {
	return &finder{Copy: c, tree: t, reads: reads}
}

// matches finds what the sources mean in the tree that they are read from, in their
// order. A glob that matches nothing means nothing, as long as the directory that it
// begins in is there; another path that does not exist is an *executor.MissingError.
func (f *finder) matches() ([]match, error) {
	var out []match
	for _, src := range f.Sources {
		find := f.plain
		if f.Parents {
			find = f.withParents
		}
		ms, err := find(src)
		if err != nil {
			return nil, err
		}
		out = append(out, ms...)
	}
	return out, nil
}

func (f *finder) plain(src string) ([]match, error) {
	names, err := f.expand(src)
	if err != nil {
		return nil, err
	}
	var out []match
	for _, name := range names {
		real, err := snapshot.ResolvePath(f.tree, name, f.FollowLinks)
		if err != nil {
			return nil, err
		}
		if _, err := f.tree.Lstat(real); err != nil {
			return nil, missing(f.tree, name, real, err)
		}
		out = append(out, match{name: name, real: real, root: real})
	}
	return out, nil
}

// expand returns the paths that a source matches.
func (f *finder) expand(src string) ([]string, error) {
	src = relative(src)
	literal, globs := splitGlob(src)
	if !f.Wildcard || len(globs) == 0 {
		return []string{src}, nil
	}
	// The components before the first glob may lead through symlinks.
	dir, err := snapshot.ResolvePath(f.tree, literal, f.FollowLinks)
	if err != nil {
		return nil, err
	}
	names, err := expand(f.tree, dir, globs, false)
	if err != nil || len(names) > 0 {
		return names, err
	}
	return nil, f.there(dir, literal, globs)
}

// withParents finds a source of COPY --parents: what follows the pivot "/./", or all of
// the path, is kept.
func (f *finder) withParents(src string) ([]match, error) {
	t := f.tree
	before, rel, ok := strings.Cut(src, "/./")
	if !ok {
		before, rel = ".", src
	}
	rel = relative(rel)
	pivots, err := f.expand(before)
	if err != nil {
		return nil, err
	}
	var out []match
	glob := f.Wildcard && slices.ContainsFunc(strings.Split(before, "/"), isGlob)
	for _, pivot := range pivots {
		root, err := snapshot.ResolvePath(t, pivot, true)
		if err != nil {
			return nil, err
		}
		if _, err := t.Lstat(root); err != nil {
			return nil, missing(t, pivot, root, err)
		}
		if rel == "." {
			out = append(out, match{name: root, real: root, root: root})
			continue
		}
		names := []string{path.Join(root, rel)}
		if parts := strings.Split(rel, "/"); f.Wildcard && slices.ContainsFunc(parts, isGlob) {
			if names, err = expand(t, root, parts, true); err == nil && len(names) == 0 {
				err = f.there(root, pivot, parts)
			}
			if err != nil {
				return nil, err
			}
		} else if _, err := t.Lstat(names[0]); err != nil {
			if glob { // what a wildcard matched need not have the rest of the path
				continue
			}
			return nil, missing(t, names[0], names[0], err)
		}
		for _, name := range names {
			below := name
			if root != "." {
				below = strings.TrimPrefix(name, root+"/")
			}
			out = append(out, match{name: name, real: name, root: root, rel: below})
		}
	}
	return out, nil
}

// relative makes a path clean, without a leading slash.
func relative(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}

// splitGlob parts a clean path before its first component that is a glob.
func splitGlob(p string) (literal string, globs []string) {
	parts := strings.Split(p, "/")
	first := slices.IndexFunc(parts, isGlob)
	if first < 0 {
		return p, nil
	}
	return relative(path.Join(parts[:first]...)), parts[first:]
}

// isGlob reports whether a component has an unescaped special character.
func isGlob(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// expand finds the paths below dir that match the components of a pattern, sorted.
// With deep, "**" matches any number of directories.
func expand(t snapshot.Tree, dir string, parts []string, deep bool) ([]string, error) {
	entries, err := t.ReadDir(dir)
	if err != nil {
		if isNoDir(t, dir, err) {
			return nil, nil
		}
		return nil, err
	}
	if deep && parts[0] == "**" && len(parts) > 1 {
		out, err := expand(t, dir, parts[1:], deep)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type != snapshot.TypeDir {
				continue
			}
			more, err := expand(t, e.Path, parts, deep)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		slices.Sort(out)
		return slices.Compact(out), nil
	}
	var out []string
	for _, e := range entries {
		ok, err := filepath.Match(parts[0], path.Base(e.Path))
		if err != nil {
			return nil, err
		}
		switch {
		case !ok:
		case len(parts) == 1:
			out = append(out, e.Path)
		case e.Type == snapshot.TypeDir:
			more, err := expand(t, e.Path, parts[1:], deep)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
}

// isNoDir reports whether a ReadDir failed because there is no such directory.
func isNoDir(t snapshot.Tree, dir string, err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	e, lerr := t.Lstat(dir)
	return errors.Is(lerr, fs.ErrNotExist) || lerr == nil && e.Type != snapshot.TypeDir
}

// there fails if the directory in which a glob has found nothing does not exist. Of a
// directory that the build names parts of, only what leads to these exists, as in
// BuildKit, which sends nothing else.
func (f *finder) there(dir, name string, globs []string) error {
	if dir == "." {
		return nil
	}
	glob := path.Join(name, path.Join(globs...))
	if _, err := f.tree.Lstat(dir); err != nil {
		err = missing(f.tree, name, dir, err)
		var m *executor.MissingError
		if errors.As(err, &m) {
			m.Glob = glob
		}
		return err
	}
	if f.reads == nil {
		return nil
	}
	for _, read := range f.reads {
		if ok, err := f.leadsTo(read, dir); ok || err != nil {
			return err
		}
	}
	m := &executor.MissingError{Path: name, Glob: glob, Empty: true}
	if x, ok := f.tree.(interface {
		Hidden(dir, glob string) (string, string)
	}); ok {
		m.Hidden, m.Pattern = x.Hidden(dir, globs[0])
	}
	return m
}

// leadsTo reports whether a path that is read is a directory, is in it, or has it in it.
func (f *finder) leadsTo(read, dir string) (bool, error) {
	literal, globs := splitGlob(read)
	literal, err := snapshot.ResolvePath(f.tree, literal, f.FollowLinks)
	if err != nil {
		return false, err
	}
	found := []string{literal}
	if len(globs) > 0 {
		if found, err = expand(f.tree, literal, globs, true); err != nil {
			return false, err
		}
	}
	return slices.ContainsFunc(found, func(p string) bool {
		_, err := f.tree.Lstat(p)
		return err == nil && (within(p, dir) || within(dir, p))
	}), nil
}

// within reports whether p is dir or below it.
func within(dir, p string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}

// missing makes the error for a path that does not exist.
func missing(t snapshot.Tree, name, real string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m := &executor.MissingError{Path: name}
	if x, ok := t.(interface{ ExcludedBy(string) (string, bool) }); ok {
		m.Pattern, _ = x.ExcludedBy(real)
	}
	if e, lerr := t.Lstat(path.Clean(name)); lerr == nil && e.Type == snapshot.TypeSymlink {
		m.Link, m.Target = true, real
	} else if m.Pattern == "" {
		m.Near = nearest(t, name)
	}
	return m
}
