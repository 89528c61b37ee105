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

// matches finds what a Copy's sources mean in the tree that they are read from,
// in their order. A glob that matches nothing means nothing; another path that
// does not exist is an *executor.MissingError.
func matches(t snapshot.Tree, c *dag.Copy) ([]match, error) {
	var out []match
	for _, src := range c.Sources {
		var ms []match
		var err error
		if c.Parents {
			ms, err = parentsMatches(t, c, src)
		} else {
			ms, err = plainMatches(t, c, src)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, ms...)
	}
	return out, nil
}

func plainMatches(t snapshot.Tree, c *dag.Copy, src string) ([]match, error) {
	names, err := expandSource(t, c, src)
	if err != nil {
		return nil, err
	}
	var out []match
	for _, name := range names {
		real, err := snapshot.ResolvePath(t, name, c.FollowLinks)
		if err != nil {
			return nil, err
		}
		if _, err := t.Lstat(real); err != nil {
			return nil, missing(t, name, real, err)
		}
		out = append(out, match{name: name, real: real, root: real})
	}
	return out, nil
}

// expandSource returns the paths that a source matches.
func expandSource(t snapshot.Tree, c *dag.Copy, src string) ([]string, error) {
	src = strings.TrimPrefix(path.Clean("/"+src), "/")
	if src == "" {
		return []string{"."}, nil
	}
	parts := strings.Split(src, "/")
	first := slices.IndexFunc(parts, isGlob)
	if !c.Wildcard || first < 0 {
		return []string{src}, nil
	}
	// The components before the first glob may lead through symlinks.
	dir, err := snapshot.ResolvePath(t, path.Join(parts[:first]...), c.FollowLinks)
	if err != nil {
		return nil, err
	}
	return expand(t, dir, parts[first:], false)
}

// parentsMatches finds the sources of COPY --parents: what follows the pivot "/./",
// or all of the path, is kept.
func parentsMatches(t snapshot.Tree, c *dag.Copy, src string) ([]match, error) {
	before, rel, ok := strings.Cut(src, "/./")
	if !ok {
		before, rel = ".", src
	}
	rel = strings.TrimPrefix(path.Clean("/"+rel), "/")
	pivots, err := expandSource(t, c, before)
	if err != nil {
		return nil, err
	}
	var out []match
	glob := c.Wildcard && slices.ContainsFunc(strings.Split(before, "/"), isGlob)
	for _, pivot := range pivots {
		root, err := snapshot.ResolvePath(t, pivot, true)
		if err != nil {
			return nil, err
		}
		if _, err := t.Lstat(root); err != nil {
			return nil, missing(t, pivot, root, err)
		}
		if rel == "" {
			out = append(out, match{name: root, real: root, root: root})
			continue
		}
		names := []string{path.Join(root, rel)}
		if parts := strings.Split(rel, "/"); c.Wildcard && slices.ContainsFunc(parts, isGlob) {
			if names, err = expand(t, root, parts, true); err != nil {
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
