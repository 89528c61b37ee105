package source

import (
	"fmt"
	"path"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Steps use the tree of one context at the same time, each by itself: some look at
// paths while others bring the index up to date. The race detector has the verdict.
func TestTreeIsSharedBySteps(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	files := map[string]string{}
	for n := range 40 {
		files[fmt.Sprintf("d%d/f", n)] = fmt.Sprint(n)
	}
	write(t, dir, files)
	settle(t)
	for range 2 { // without and with an index
		tree := open(t, dir, state)
		var steps errgroup.Group
		for name := range files {
			steps.Go(func() error {
				_, err := tree.Lstat(name)
				return err
			})
			steps.Go(func() error { return tree.Preload(t.Context(), []string{path.Dir(name)}) })
		}
		if err := steps.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
