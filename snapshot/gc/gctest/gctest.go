// Package gctest is the conformance suite for keepers of folders of a store.
package gctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// Run tests a keeper of a store in which there is at least one item of each of some kinds,
// none of them in use. Afterwards those are gone that may go.
func Run(t *testing.T, s *snapshot.Store, k gc.Keeper, kinds ...string) {
	t.Helper()
	items := list(t, k)
	for _, kind := range kinds {
		if !slices.ContainsFunc(items, func(it gc.Item) bool { return it.Kind == kind }) {
			t.Errorf("there is no item of the kind %s", kind)
		}
	}
	checkPlaces(t, s, k, items)
	before := paths(t, s.Root())
	gone := removeAll(t, s, k, items)
	for _, it := range list(t, k) {
		if it.Rule != gc.Stays && it.Rule != gc.Kept {
			t.Errorf("%s is listed after it was removed", name(it))
		}
	}
	after := paths(t, s.Root())
	for p := range before {
		belongs := slices.ContainsFunc(gone, func(it gc.Item) bool { return within(p, it.Path) })
		if placeless := slices.ContainsFunc(gone, func(it gc.Item) bool { return it.Path == "" }); !belongs && !after[p] && !placeless {
			t.Errorf("%s was removed, and belongs to no item", p)
		}
		if belongs && after[p] {
			t.Errorf("%s is left of an item", p)
		}
	}
	removeAll(t, s, k, items) // it is no error that they are gone
}

func list(t *testing.T, k gc.Keeper) []gc.Item {
	t.Helper()
	c, err := k.Items(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Items
}

// checkPlaces proves that items lie where their keeper's folders have items.
func checkPlaces(t *testing.T, s *snapshot.Store, k gc.Keeper, items []gc.Item) {
	t.Helper()
	seen := map[string]bool{}
	for _, it := range items {
		if it.ID == "" && it.Path == "" || it.Kind == "" || it.InUse {
			t.Errorf("it has no name or no kind, or is in use: %+v", it)
		}
		if seen[name(it)] {
			t.Errorf("%s is listed twice", name(it))
		}
		seen[name(it)] = true
		if it.Path == "" {
			continue
		}
		if !slices.ContainsFunc(k.Folders(), func(f gc.Folder) bool {
			below, ok := strings.CutPrefix(it.Path, f.Name+"/")
			return ok && strings.Count(below, "/") == f.Depth-1
		}) {
			t.Errorf("%s is not where the keeper says that items are", it.Path)
		}
		if _, err := os.Lstat(filepath.Join(s.Root(), it.Path)); err != nil {
			t.Error(err)
		}
	}
}

// removeAll removes what may go, and returns it.
func removeAll(t *testing.T, s *snapshot.Store, k gc.Keeper, items []gc.Item) (gone []gc.Item) {
	t.Helper()
	err := s.Collect(t.Context(), func(c *snapshot.Collection) error {
		for _, it := range items {
			if it.Rule == gc.Stays || it.Rule == gc.Kept {
				continue
			}
			if ok, err := k.Remove(c, it); err != nil || !ok {
				t.Errorf("remove %s: %v, %v", name(it), ok, err)
			}
			gone = append(gone, it)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return gone
}

// paths are those of all that is in a store but what is being deleted.
func paths(t *testing.T, root string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, p); err == nil && !within(rel, "tmp") {
			out[rel] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func within(path, folder string) bool {
	return folder != "" && (path == folder || strings.HasPrefix(path, folder+"/"))
}

func name(it gc.Item) string {
	if it.ID != "" {
		return it.ID
	}
	return it.Path
}
