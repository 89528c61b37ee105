package disk

import (
	"context"
	"path"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// Folder is where the cache of a store is, below the store's folder.
const Folder = "cache"

// keeper looks after a cache's records.
type keeper struct{ c *Cache }

// Keeper returns the keeper of the records of a cache that is in the Folder of a store.
func (c *Cache) Keeper() gc.Keeper { return keeper{c} }

// Folders implements gc.Keeper.
func (keeper) Folders() []gc.Folder { return []gc.Folder{{Name: Folder, Depth: 2}} }

// Items implements gc.Keeper. A damaged record leads nowhere.
func (k keeper) Items(ctx context.Context) (gc.Contents, error) {
	var out gc.Contents
	err := k.c.List(ctx, func(e Entry) error {
		h, err := keyHex(e.Key)
		if err != nil {
			return err
		}
		it := gc.Item{
			ID: string(e.Key), Kind: gc.KindRegular, Path: path.Join(Folder, recordPath(h)), Rule: gc.Follows, LastUsed: e.LastUsed,
		}
		if e.Record != nil {
			it.Description, it.Needs.Layers = e.Record.Step, e.Record.Outputs
		}
		out.Items = append(out.Items, it)
		return nil
	})
	return out, err
}

// Remove implements gc.Keeper.
func (k keeper) Remove(_ *snapshot.Collection, it gc.Item) (bool, error) {
	return true, k.c.Remove(cache.Key(it.ID))
}

// Tidy implements gc.Tidier.
func (k keeper) Tidy() error { return k.c.Tidy() }

var _ gc.Tidier = keeper{}
