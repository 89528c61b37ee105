package gc

import (
	"context"
	"path"

	"layered.build/builder/snapshot"
)

// layers is the keeper of a store's layers and blobs.
type layers struct{ s *snapshot.Store }

// Layers returns the keeper of a store's layers and blobs.
func Layers(s *snapshot.Store) Keeper { return layers{s} }

// Folders implements Keeper.
func (layers) Folders() []Folder {
	return []Folder{{Name: snapshot.LayersFolder, Depth: 1}, {Name: snapshot.BlobsFolder, Depth: 1}}
}

// Items implements Keeper.
func (k layers) Items(context.Context) (Contents, error) {
	var out Contents
	ids, err := k.s.IDs()
	if err != nil {
		return out, err
	}
	for _, id := range ids {
		out.Items = append(out.Items, Item{
			ID: string(id), Kind: KindRegular, Path: path.Join(snapshot.LayersFolder, string(id)), Rule: Free, Layer: id,
		})
	}
	blobs, err := k.s.Blobs().All()
	for _, d := range blobs {
		out.Items = append(out.Items, Item{
			ID: d.String(), Kind: KindBlob, Path: path.Join(snapshot.BlobsFolder, d.Encoded()), Rule: Free, Blob: d,
		})
	}
	return out, err
}

// Remove implements Keeper.
func (layers) Remove(c *snapshot.Collection, it Item) (bool, error) {
	if it.Layer != "" {
		return !c.Pinned(it.Layer), c.Remove(it.Layer)
	}
	return !c.PinnedBlob(it.Blob), c.RemoveBlob(it.Blob)
}
