package collect

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/cache/disk"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// Store is everything below one folder.
type Store struct {
	Layers *snapshot.Store
	Images *registry.Images
	Cache  *disk.Cache
	// Runs returns the stacks that kept runs need.
	Runs func() ([]snapshot.Stack, error)
}

// layerUse says what leads to a layer.
type layerUse struct {
	layer    snapshot.Layer
	depth    int // the longest stack below it
	lastUsed time.Time
	step     string // of the latest record
	records  []cache.Key
	named    bool            // an image with a name, or a run, needs it
	dangling []digest.Digest // images without a name that need it
}

// refs is who needs what.
type refs struct {
	layers  map[snapshot.LayerID]*layerUse // that are on disk
	records map[cache.Key]disk.Entry
	images  []registry.Holding
	steps   []registry.Step
	kept    map[string]bool // V1 records that kept images lead to
	blobs   map[digest.Digest]bool
	pins    snapshot.Pins
}

// read collects who needs what.
func (s *Store) read(ctx context.Context, pins snapshot.Pins) (*refs, error) {
	r := &refs{
		layers: map[snapshot.LayerID]*layerUse{}, records: map[cache.Key]disk.Entry{},
		kept: map[string]bool{}, blobs: map[digest.Digest]bool{}, pins: pins,
	}
	layers, err := s.Layers.Survey()
	if err != nil {
		return nil, err
	}
	for _, l := range layers {
		r.layers[l.ID] = &layerUse{layer: l}
	}
	if err := s.Cache.List(ctx, func(e disk.Entry) error { r.addRecord(e); return nil }); err != nil {
		return nil, err
	}
	if r.images, err = s.Images.Holdings(); err != nil {
		return nil, err
	}
	if r.steps, err = s.Images.Steps(); err != nil {
		return nil, err
	}
	runs, err := s.Runs()
	if err != nil {
		return nil, err
	}
	for _, stack := range runs {
		r.keep(stack)
	}
	r.addImages()
	return r, nil
}

func (r *refs) addRecord(e disk.Entry) {
	if e.Record == nil {
		e.Record = &cache.Record{}
	}
	// What explains a key is not needed here, and large.
	e.Record.Parts = nil
	r.records[e.Key] = e
	for _, stack := range e.Record.Outputs {
		for depth, l := range stack {
			u := r.layers[l.ID]
			if u == nil {
				continue
			}
			u.records = append(u.records, e.Key)
			u.depth = max(u.depth, depth)
			if e.LastUsed.After(u.lastUsed) {
				u.lastUsed = e.LastUsed
			}
			if depth == len(stack)-1 {
				u.step = e.Record.Step
			}
		}
	}
}

// keep marks a stack as needed.
func (r *refs) keep(stack snapshot.Stack) {
	for _, l := range stack {
		if u := r.layers[l.ID]; u != nil {
			u.named = true
		}
	}
}

func (r *refs) addImages() {
	parents := map[string]registry.Step{}
	for _, st := range r.steps {
		parents[st.ID] = st
	}
	for _, img := range r.images {
		for _, b := range img.Blobs {
			r.blobs[b] = true
		}
		for id := img.V1; id != "" && !r.kept[id]; id = parents[id].Parent {
			r.kept[id] = true
			if len(img.Names) > 0 {
				r.keep(parents[id].Stack)
			}
		}
		if len(img.Names) > 0 {
			r.keep(img.Stack)
			continue
		}
		for depth, l := range img.Stack {
			if u := r.layers[l.ID]; u != nil {
				u.dangling = append(u.dangling, img.ID)
				u.depth = max(u.depth, depth)
				if img.LastUsed.After(u.lastUsed) {
					u.lastUsed = img.LastUsed
				}
			}
		}
	}
}

func (r *refs) pinned(id snapshot.LayerID) bool { return r.pins.Pinned(id) }

// removable reports whether a layer may go.
func (r *refs) removable(u *layerUse) bool { return !u.named && !r.pinned(u.layer.ID) }

// imagePinned reports whether a process uses an image: at least one of its layers
// or blobs.
func (r *refs) imagePinned(img registry.Holding) bool {
	return slices.ContainsFunc(img.Blobs, func(d digest.Digest) bool { return r.pins.PinnedBlob(d) }) ||
		slices.ContainsFunc(img.Stack, func(l snapshot.Layer) bool { return r.pinned(l.ID) })
}

// recordOnDisk reports whether a record leads to a layer that may go with it; then
// it goes with that layer.
func (r *refs) recordOnDisk(e disk.Entry) bool {
	for _, stack := range e.Record.Outputs {
		for _, l := range stack {
			if u := r.layers[l.ID]; u != nil && !u.named {
				return true
			}
		}
	}
	return false
}

// kindOf returns the kind of a part that no other place describes.
func kindOf(name string) string {
	top, _, _ := strings.Cut(name, "/")
	switch {
	case top == "mounts":
		return KindMount
	case top == "contexts":
		return KindContext
	case strings.HasPrefix(name, "sources/git"):
		return KindGit
	case strings.HasPrefix(name, "sources/http"):
		return KindHTTP
	case top == "logs":
		return KindLog
	case top == "runs":
		return KindRun
	case top == "blobs":
		return KindBlob
	}
	return KindInternal
}
