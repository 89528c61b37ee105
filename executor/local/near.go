package local

import (
	"path"
	"strings"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot"
)

// nearVisits bounds how many entries are looked at for a hint.
const nearVisits = 5000

// nearest finds the path that somebody meant who wrote one that does not exist: a
// neighbour whose name is nearly the same, else a file of the same name in another
// directory. "" if there is none.
func nearest(t snapshot.Tree, name string) string {
	dir, rest := ".", strings.Split(path.Clean(name), "/")
	for len(rest) > 1 {
		e, err := t.Lstat(path.Join(dir, rest[0]))
		if err != nil || e.Type != snapshot.TypeDir {
			break
		}
		dir, rest = path.Join(dir, rest[0]), rest[1:]
	}
	best, bestDistance := "", 1+mistake.Farthest(rest[0])
	entries, err := t.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		d := mistake.Distance(strings.ToLower(path.Base(e.Path)), strings.ToLower(rest[0]))
		if d >= bestDistance {
			continue
		}
		whole := path.Join(append([]string{e.Path}, rest[1:]...)...)
		if _, err := t.Lstat(whole); err == nil {
			best, bestDistance = whole, d
		}
	}
	if best != "" {
		return best
	}
	visits := nearVisits
	return elsewhere(t, ".", path.Base(name), 3, &visits)
}

// elsewhere looks for a name in a directory and those below it.
func elsewhere(t snapshot.Tree, dir, name string, depth int, visits *int) string {
	entries, err := t.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if *visits--; *visits < 0 {
			return ""
		}
		if path.Base(e.Path) == name {
			return e.Path
		}
	}
	for _, e := range entries {
		if e.Type != snapshot.TypeDir || depth == 0 {
			continue
		}
		if found := elsewhere(t, e.Path, name, depth-1, visits); found != "" {
			return found
		}
	}
	return ""
}
