package collect

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// removal removes what was chosen.
type removal struct {
	c       *snapshot.Collection
	inv     *inventory
	out     *Pruned
	removed map[*entry]bool // that it was tried with, and whether they are gone
	errs    []error
}

// do removes what leads to a layer before the layer, so that an interruption leaves
// nothing that leads nowhere.
func (r *removal) do(chosen []Item, gone map[snapshot.LayerID]bool, all bool) error {
	for id := range gone {
		for _, e := range r.inv.layers[id].leads {
			r.remove(e)
		}
	}
	for _, it := range chosen {
		if r.remove(it.entry) {
			r.out.Items = append(r.out.Items, it)
			r.out.Bytes += it.Size
		}
	}
	r.removeBlobs()
	for _, sweep := range r.inv.sweeps {
		r.errs = append(r.errs, sweep(r.c, all))
	}
	return errors.Join(r.errs...)
}

// remove removes an item, once.
func (r *removal) remove(e *entry) bool {
	ok, tried := r.removed[e]
	if tried {
		return ok
	}
	ok, err := e.keeper.Remove(r.c, e.Item)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("remove %s: %w", e.ID, err))
	}
	r.removed[e] = ok && err == nil
	return r.removed[e]
}

// removeBlobs removes what only those needed that are gone.
func (r *removal) removeBlobs() {
	lost := map[digest.Digest]bool{}
	for e, ok := range r.removed {
		for _, d := range e.Needs.Blobs {
			lost[d] = lost[d] || ok
		}
	}
	for _, root := range r.inv.roots {
		for _, d := range root.Blobs {
			delete(lost, d)
		}
	}
	for _, e := range r.inv.entries {
		for _, d := range e.Needs.Blobs {
			if !r.removed[e] {
				delete(lost, d)
			}
		}
	}
	for d, gone := range lost {
		if gone {
			r.errs = append(r.errs, r.c.RemoveBlob(d))
		}
	}
}
