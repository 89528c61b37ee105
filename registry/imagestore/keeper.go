package imagestore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// keeper looks after what images and steps need.
type keeper struct{ s *Store }

// Keeper returns the keeper of the images. Those with a name need their layers, those of
// the steps that led to them, and their configurations and manifests; they go only where
// that is allowed for what was not used for long. One without a name may go. What the
// images' folder holds is not divided into items.
func (s *Store) Keeper() gc.Keeper { return keeper{s} }

// Folders implements gc.Keeper.
func (keeper) Folders() []gc.Folder { return nil }

// Items implements gc.Keeper.
func (k keeper) Items(context.Context) (gc.Contents, error) {
	var out gc.Contents
	images, err := k.s.holdings()
	if err != nil {
		return out, err
	}
	steps, err := k.s.steps()
	if err != nil {
		return out, err
	}
	byID := map[string]step{}
	for _, st := range steps {
		byID[st.ID] = st
	}
	led := map[string]bool{} // steps that led to an image with a name
	for _, img := range images {
		needs := gc.Needs{Layers: []snapshot.Stack{img.Stack}, Blobs: img.Blobs}
		if len(img.Names) == 0 {
			out.Items = append(out.Items, gc.Item{
				ID: img.ID.String(), Kind: gc.KindImage, Description: "image without a name",
				LastUsed: img.LastUsed, Rule: gc.Free, Needs: needs,
			})
			continue
		}
		for id := img.V1; id != "" && !led[id]; id = byID[id].Parent {
			led[id] = true
			needs.Layers = append(needs.Layers, byID[id].Stack)
		}
		out.Items = append(out.Items, gc.Item{
			ID: img.ID.String(), Kind: gc.KindImage, Description: "image " + strings.Join(img.Names, ", "),
			LastUsed: img.LastUsed, Rule: gc.Kept, Needs: needs,
		})
	}
	out.Sweep = func(c *snapshot.Collection, all bool) error { return k.sweep(c, byID, all) }
	return out, nil
}

// Remove implements gc.Keeper. An image that has got a name or was used meanwhile stays.
func (k keeper) Remove(_ *snapshot.Collection, it gc.Item) (bool, error) {
	if it.Rule == gc.Kept {
		return k.s.removeUnused(digest.Digest(it.ID), it.LastUsed)
	}
	return k.s.removeDangling(digest.Digest(it.ID))
}

// sweep removes the steps whose layers are gone, or all that nobody uses, except those
// that led to an image.
func (k keeper) sweep(c *snapshot.Collection, steps map[string]step, all bool) error {
	images, err := k.s.holdings() // those that are left
	if err != nil {
		return err
	}
	led := map[string]bool{}
	for _, img := range images {
		for id := img.V1; id != "" && !led[id]; id = steps[id].Parent {
			led[id] = true
		}
	}
	var errs []error
	for id, st := range steps {
		lost := slices.ContainsFunc(st.Stack, func(l snapshot.Layer) bool { return !c.Has(l.ID) && !c.Pinned(l.ID) })
		// The next build of what is not built any more writes it again.
		unused := all && !slices.ContainsFunc(st.Stack, func(l snapshot.Layer) bool { return c.Pinned(l.ID) })
		if (lost || unused) && !led[id] {
			errs = append(errs, k.s.removeStep(id))
		}
	}
	return errors.Join(errs...)
}
