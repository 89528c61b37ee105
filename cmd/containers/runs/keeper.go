package runs

import (
	"context"
	"errors"
	"path"
	"path/filepath"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// folder is where the records of a store are, below the store's folder.
const folder = "runs"

// keeper looks after the records of runs.
type keeper struct{ f Folder }

// Keeper returns the keeper of the records.
func (f Folder) Keeper() gc.Keeper { return keeper{f} }

// Folders implements gc.Keeper.
func (keeper) Folders() []gc.Folder { return []gc.Folder{{Name: folder, Depth: 1}} }

// Items implements gc.Keeper.
func (k keeper) Items(context.Context) (gc.Contents, error) {
	var out gc.Contents
	names, err := k.f.names()
	if err != nil {
		return out, err
	}
	for _, name := range names {
		out.Items = append(out.Items, gc.Item{Kind: gc.KindRun, Path: path.Join(folder, name), Rule: gc.Stays})
	}
	stacks, err := k.f.Stacks()
	out.Roots = []gc.Needs{{Layers: stacks}}
	return out, err
}

// Remove implements gc.Keeper: runs are removed by users only.
func (keeper) Remove(*snapshot.Collection, gc.Item) (bool, error) { return false, nil }

// Check implements gc.Checker.
func (k keeper) Check(_ context.Context, x *gc.Check) error {
	bad, err := k.f.Damaged()
	for _, dir := range bad {
		x.Problem("run "+filepath.Base(dir), errors.New("its record is damaged"), func(c *snapshot.Collection) error {
			return c.Discard(dir)
		})
	}
	return err
}

var _ gc.Checker = keeper{}
