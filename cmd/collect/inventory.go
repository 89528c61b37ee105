package collect

import (
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// inventory is what keepers say there is, and who needs what of it.
type inventory struct {
	pins    snapshot.Pins
	entries []*entry
	byPath  map[string]*entry
	layers  map[snapshot.LayerID]*layerUse // that are on disk
	roots   []gc.Needs
	since   time.Time              // what is kept and was not used since may go; zero: nothing
	blobs   map[digest.Digest]bool // that something needs
	sweeps  []func(c *snapshot.Collection, all bool) error
}

// entry is an item, and what the others make of it.
type entry struct {
	gc.Item
	keeper gc.Keeper
	free   bool // it may go, by itself or with a layer
	follow bool // it goes with a layer only
	spare  bool // it goes only when all is asked for
	deep   int  // what stands on others goes first
}

// layerUse says what leads to a layer.
type layerUse struct {
	entry    *entry
	depth    int // the longest stack below it
	lastUsed time.Time
	step     string // of the latest record
	held     bool   // a root needs it
	leads    []*entry
}

func newInventory(pins snapshot.Pins, since time.Time) *inventory {
	return &inventory{
		pins: pins, since: since, byPath: map[string]*entry{},
		layers: map[snapshot.LayerID]*layerUse{}, blobs: map[digest.Digest]bool{},
	}
}

// add takes in what one keeper has.
func (inv *inventory) add(k gc.Keeper, c gc.Contents) {
	for _, it := range c.Items {
		if it.Rule == gc.Kept && !it.LastUsed.Before(inv.since) {
			inv.roots = append(inv.roots, it.Needs)
			continue
		}
		e := &entry{Item: it, keeper: k}
		if e.ID == "" {
			e.ID = e.Path
		}
		inv.entries = append(inv.entries, e)
		if e.Path != "" {
			inv.byPath[e.Path] = e
		}
		if e.Layer != "" {
			inv.layers[e.Layer] = &layerUse{entry: e}
		}
	}
	inv.roots = append(inv.roots, c.Roots...)
	if c.Sweep != nil {
		inv.sweeps = append(inv.sweeps, c.Sweep)
	}
}

// connect finds out who needs what, and from that what may go.
func (inv *inventory) connect() {
	for _, root := range inv.roots {
		for _, stack := range root.Layers {
			inv.hold(stack)
		}
		inv.needBlobs(root)
	}
	for _, e := range inv.entries {
		for _, stack := range e.Needs.Layers {
			inv.lead(e, stack)
		}
		inv.needBlobs(e.Needs)
	}
	for _, e := range inv.entries {
		inv.judge(e)
	}
}

// hold marks a stack as needed by a root.
func (inv *inventory) hold(stack snapshot.Stack) {
	for _, l := range stack {
		if u := inv.layers[l.ID]; u != nil {
			u.held = true
		}
	}
}

func (inv *inventory) needBlobs(n gc.Needs) {
	for _, d := range n.Blobs {
		inv.blobs[d] = true
	}
}

// lead notes that an item leads to the layers of a stack.
func (inv *inventory) lead(e *entry, stack snapshot.Stack) {
	for depth, l := range stack {
		u := inv.layers[l.ID]
		if u == nil {
			continue
		}
		u.leads = append(u.leads, e)
		u.depth = max(u.depth, depth)
		if e.LastUsed.After(u.lastUsed) {
			u.lastUsed = e.LastUsed
		}
		if e.Kind == gc.KindRegular && depth == len(stack)-1 {
			u.step = e.Description
		}
	}
}

// judge finds out whether and how an item may go.
func (inv *inventory) judge(e *entry) {
	switch {
	case e.Layer != "":
		inv.judgeLayer(e, inv.layers[e.Layer])
		return
	case e.Blob != "":
		e.InUse = e.InUse || inv.pins.PinnedBlob(e.Blob)
		e.free = !e.InUse && !inv.blobs[e.Blob]
		return
	}
	switch e.Rule {
	case gc.Stays:
		return
	case gc.Spare:
		e.spare = true
	case gc.Follows:
		here, goes := inv.count(e.Needs)
		if e.follow = goes > 0; e.follow {
			e.free = true
			return
		}
		e.spare = here > 0 // the cache of what stays
	case gc.Free, gc.Kept:
		for _, stack := range e.Needs.Layers {
			e.deep = max(e.deep, len(stack)+1)
		}
	}
	e.InUse = e.InUse || inv.pinned(e.Needs)
	e.free = !e.InUse
}

func (inv *inventory) judgeLayer(e *entry, u *layerUse) {
	e.InUse = e.InUse || inv.pins.Pinned(e.Layer)
	e.LastUsed, e.Description, e.deep = u.lastUsed, u.step, u.depth
	if u.held {
		e.Kind = gc.KindImage
	}
	e.free = !e.InUse && !u.held
}

// count returns how many of the layers are on disk, and how many of these no root needs.
func (inv *inventory) count(n gc.Needs) (here, goes int) {
	for _, stack := range n.Layers {
		for _, l := range stack {
			if u := inv.layers[l.ID]; u != nil {
				here++
				if !u.held {
					goes++
				}
			}
		}
	}
	return here, goes
}

// pinned reports whether a process uses a layer or blob of these.
func (inv *inventory) pinned(n gc.Needs) bool {
	for _, stack := range n.Layers {
		for _, l := range stack {
			if inv.pins.Pinned(l.ID) {
				return true
			}
		}
	}
	for _, d := range n.Blobs {
		if inv.pins.PinnedBlob(d) {
			return true
		}
	}
	return false
}
