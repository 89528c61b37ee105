package collect

import (
	"context"
	"errors"
	"time"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// PruneOptions say what may go.
type PruneOptions struct {
	// All includes what the next build of a kept image would like to have: its
	// cache records, stat indexes of contexts, and logs.
	All    bool
	Budget Budget
	// Unused: images with a name that nobody used since then may go. Zero: none may.
	Unused time.Time
	// Images: only images go, and the layers that nothing but those leads to.
	Images bool
	// Match, if set, says which items may go.
	Match func(Item) bool
}

// Pruned is what went.
type Pruned struct {
	Items []Item
	Bytes int64
	// Left is how large the store is now.
	Left int64
}

// Prune removes what nothing needs, the least recently used first, until the store
// keeps its budget. What a named image, a run or a living process uses stays.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (*Pruned, error) {
	if err := s.Layers.Reclaim(ctx); err != nil {
		return nil, err
	}
	m := s.beginMeasurement(ctx)
	// Measuring takes long, so that it is done while others work.
	found, err := s.measure(ctx)
	if err != nil {
		return nil, err
	}
	free, err := FreeSpace(s.Layers.Root())
	if err != nil {
		return nil, err
	}
	out := &Pruned{Left: found.total}
	keep := o.Budget.keep(found.total, free)
	if found.total <= keep && o.Budget.isBounded() {
		m.end(ctx, out.Left)
		return out, nil
	}
	err = s.Layers.Collect(ctx, func(c *snapshot.Collection) error {
		inv, err := s.takeInventory(ctx, c.Pins, o.Unused)
		if err != nil {
			return err
		}
		ch := chooser{inv: inv, gone: map[snapshot.LayerID]bool{}, budget: o.Budget, total: found.total, keep: keep}
		ch.choose(inv.items(found), o)
		r := removal{c: c, inv: inv, out: out, removed: map[*entry]bool{}}
		return r.do(ch.chosen, ch.gone, o.All && o.Match == nil && !o.Images)
	})
	out.Left = found.total - out.Bytes
	m.end(ctx, out.Left)
	return out, errors.Join(err, s.tidy())
}

// tidy lets the keepers clear away after a collection.
func (s *Store) tidy() error {
	var errs []error
	for _, k := range s.Keepers {
		if t, ok := k.(gc.Tidier); ok {
			errs = append(errs, t.Tidy())
		}
	}
	return errors.Join(errs...)
}
