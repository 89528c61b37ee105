package builds

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// keeper looks after the builds of a store.
type keeper struct{ f Folder }

// Keeper returns the keeper of the builds.
func (f Folder) Keeper() gc.Keeper { return keeper{f} }

// Folders implements gc.Keeper.
func (keeper) Folders() []gc.Folder { return []gc.Folder{{Name: folder, Depth: 1}} }

// Items implements gc.Keeper.
func (k keeper) Items(context.Context) (gc.Contents, error) {
	var out gc.Contents
	names, err := k.f.names()
	for _, name := range names {
		out.Items = append(out.Items, gc.Item{Kind: gc.KindBuild, Path: path.Join(folder, name), Rule: gc.Spare})
	}
	return out, err
}

// Remove implements gc.Keeper.
func (k keeper) Remove(c *snapshot.Collection, it gc.Item) (bool, error) {
	return true, c.Discard(filepath.Join(filepath.Dir(k.f.dir), it.Path))
}

// Check implements gc.Checker.
func (k keeper) Check(_ context.Context, x *gc.Check) error {
	names, err := k.f.names()
	for _, name := range names {
		if _, err := k.f.read(name); err != nil {
			x.Problem("build "+name, err, func(*snapshot.Collection) error { return os.Remove(filepath.Join(k.f.dir, name)) })
		}
	}
	return err
}

var _ gc.Checker = keeper{}
