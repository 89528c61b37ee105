package dag

import (
	"path"
	"slices"
	"strings"
)

// Selector returns the paths of an input that the step reads, sorted, and
// whether it reads only these: ok is false if it needs the whole input (a root
// file system, the base of a File, an input of Merge or Diff). Paths are clean
// and relative, and glob patterns where a Copy has Wildcard set. What is mounted
// or copied as a whole has the path ".". Excludes do not narrow it.
func (s *Step) Selector(input int) (paths []string, ok bool) {
	switch op := s.Op.(type) {
	case *File:
		if op.Base && input == 0 {
			return nil, false
		}
		for _, a := range op.Actions {
			if a.Copy != nil && a.Copy.Input == input {
				paths = append(paths, a.Copy.selected()...)
			}
		}
	case *Exec:
		for _, m := range op.Mounts {
			if m.Input != input {
				continue
			}
			if m.Dest == "/" {
				return nil, false
			}
			paths = append(paths, clean(m.Selector))
		}
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	return paths, len(paths) > 0
}

// selected returns the sources without the pivots of Parents.
func (c *Copy) selected() []string {
	var paths []string
	for _, src := range c.Sources {
		if c.Parents {
			src = strings.Replace(src, "/./", "/", 1)
		}
		paths = append(paths, clean(src))
	}
	return paths
}

func clean(p string) string {
	if p = strings.TrimPrefix(path.Clean("/"+p), "/"); p == "" {
		return "."
	}
	return p
}
