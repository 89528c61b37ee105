package collect

import (
	"cmp"
	"slices"
	"strings"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// chooser decides what goes.
type chooser struct {
	inv    *inventory
	budget Budget
	total  int64 // bytes that stay, so far
	keep   int64 // bytes that may stay

	chosen []Item
	took   map[*entry]bool           // the chosen
	gone   map[snapshot.LayerID]bool // the layers among them
}

// choose takes what may go, the least recently used first, until no more than keep is
// left.
func (ch *chooser) choose(items []Item, o PruneOptions) {
	layers := map[snapshot.LayerID]Item{}
	var able []Item
	for _, it := range items {
		if e := it.entry; e == nil || !e.free || e.follow || e.spare && !o.All {
			continue
		}
		if id := it.entry.Layer; id != "" {
			layers[id] = it
		}
		if o.Images && it.entry.Kind != gc.KindImage {
			continue
		}
		if o.Match == nil || o.Match(it) {
			able = append(able, it)
		}
	}
	slices.SortFunc(able, func(a, b Item) int {
		// Of one time, what stands on others goes first.
		return cmp.Or(a.LastUsed.Compare(b.LastUsed), cmp.Compare(b.entry.deep, a.entry.deep), strings.Compare(a.ID, b.ID))
	})
	for _, it := range able {
		if ch.total <= ch.keep && ch.budget.isBounded() {
			break
		}
		id := it.entry.Layer
		if ch.gone[id] {
			continue
		}
		ch.take(it)
		if id == "" {
			if o.Images {
				ch.takeLayers(it, layers)
			}
			continue
		}
		for _, other := range ch.orphans(id) {
			if also, ok := layers[other]; ok && !ch.gone[other] {
				ch.take(also)
			}
		}
	}
}

// takeLayers takes the layers of an image to which nothing leads that stays, the uppermost
// first.
func (ch *chooser) takeLayers(img Item, free map[snapshot.LayerID]Item) {
	for _, stack := range img.entry.Needs.Layers {
		for _, l := range slices.Backward(stack) {
			it, ok := free[l.ID]
			if !ok || ch.gone[l.ID] || slices.ContainsFunc(ch.inv.layers[l.ID].leads, func(e *entry) bool { return !ch.took[e] }) {
				continue
			}
			ch.take(it)
		}
	}
}

func (ch *chooser) take(it Item) {
	ch.total -= it.Size
	ch.chosen = append(ch.chosen, it)
	if ch.took == nil {
		ch.took = map[*entry]bool{}
	}
	ch.took[it.entry] = true
	if id := it.entry.Layer; id != "" {
		ch.gone[id] = true
	}
}

// orphans returns the layers that only the records led to which go with a layer.
func (ch *chooser) orphans(id snapshot.LayerID) []snapshot.LayerID {
	var out []snapshot.LayerID
	for _, e := range ch.inv.layers[id].leads {
		if !e.follow {
			continue
		}
		for _, stack := range e.Needs.Layers {
			for _, l := range stack {
				if u := ch.inv.layers[l.ID]; u != nil && !slices.ContainsFunc(u.leads, ch.survives) {
					out = append(out, l.ID)
				}
			}
		}
	}
	return out
}

// survives reports whether an item still leads to its layers: one that does not follow
// them, or of whose layers none is gone.
func (ch *chooser) survives(e *entry) bool {
	if !e.follow {
		return true
	}
	for _, stack := range e.Needs.Layers {
		for _, l := range stack {
			if ch.gone[l.ID] {
				return false
			}
		}
	}
	return true
}
