package collect

import (
	"time"

	"layered.build/builder/snapshot/gc"
)

// Item is one thing that a store holds.
type Item struct {
	ID          string
	Kind        string // one of those of package gc
	Size        int64  // bytes on disk
	LastUsed    time.Time
	InUse       bool // a running process uses it
	Reclaimable bool
	Description string `json:",omitempty"`

	entry *entry // nil for what no keeper knows
}

// Mutable reports whether steps write to the thing, or it follows what is elsewhere:
// cache mounts and sources.
func (it Item) Mutable() bool {
	switch it.Kind {
	case gc.KindMount, gc.KindContext, gc.KindGit, gc.KindHTTP:
		return true
	}
	return false
}

// Shared reports whether images with a name, or runs, use the thing, and not only the
// build cache.
func (it Item) Shared() bool {
	return it.Kind == gc.KindImage && it.entry != nil && it.entry.Layer != "" || it.Kind == gc.KindRun
}

// items lists what was measured, and what has no place of its own. What came meanwhile
// is left out: nothing is known of its size.
func (inv *inventory) items(found *measured) []Item {
	var out []Item
	for name, p := range found.parts {
		it := Item{ID: name, Kind: gc.KindInternal}
		if e := inv.byPath[name]; e != nil {
			it = e.item()
		}
		it.Size = p.bytes
		if it.LastUsed.IsZero() {
			it.LastUsed = p.touched
		}
		out = append(out, it)
	}
	for _, e := range inv.entries {
		if e.Path == "" {
			out = append(out, e.item())
		}
	}
	return out
}

func (e *entry) item() Item {
	return Item{
		ID: e.ID, Kind: e.Kind, LastUsed: e.LastUsed, InUse: e.InUse, Reclaimable: e.free,
		Description: e.Description, entry: e,
	}
}
