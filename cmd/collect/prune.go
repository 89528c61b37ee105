package collect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/cache"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// Budget bounds a store; BuildKit's three numbers, in bytes. Zero is no bound.
type Budget struct {
	Reserved int64 // is never gone below
	MaxUsed  int64
	MinFree  int64 // of the file system
}

// keep returns how many bytes may stay.
func (b Budget) keep(total, free int64) int64 {
	if b == (Budget{}) {
		return 0
	}
	keep := total
	if b.MaxUsed > 0 {
		keep = min(keep, b.MaxUsed)
	} else if b.MinFree == 0 {
		keep = b.Reserved
	}
	if lack := b.MinFree - free; b.MinFree > 0 && lack > 0 {
		keep = min(keep, total-lack)
	}
	return max(keep, b.Reserved, 0)
}

// PruneOptions say what may go.
type PruneOptions struct {
	// All includes what the next build of a kept image would like to have: its
	// cache records, stat indexes of contexts, and logs.
	All    bool
	Budget Budget
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
	// Measuring takes long, so that it is done while others work.
	parts, total, err := measure(ctx, s.Layers.Root())
	if err != nil {
		return nil, err
	}
	free, err := FreeSpace(s.Layers.Root())
	if err != nil {
		return nil, err
	}
	out := &Pruned{Left: total}
	keep := o.Budget.keep(total, free)
	if total <= keep && o.Budget != (Budget{}) {
		return out, nil
	}
	err = s.Layers.Collect(ctx, func(c *snapshot.Collection) error {
		r, err := s.read(ctx, c.Pins)
		if err != nil {
			return err
		}
		p := pruning{s: s, c: c, r: r, gone: map[snapshot.LayerID]bool{}, out: out, all: o.All && o.Match == nil}
		p.items = items(s.Layers.Root(), parts, r)
		p.choose(o, total, keep)
		return p.apply()
	})
	out.Left = total - out.Bytes
	return out, errors.Join(err, s.Cache.Tidy())
}

// FreeSpace is how many bytes are free on the file system of a folder.
func FreeSpace(dir string) (int64, error) {
	_, free, err := Disk(dir)
	return free, err
}

// Disk returns the size of a folder's file system and what is free of it.
func Disk(dir string) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

type pruning struct {
	s      *Store
	c      *snapshot.Collection
	r      *refs
	items  []Item
	chosen []Item
	gone   map[snapshot.LayerID]bool
	out    *Pruned
	all    bool // also images of steps whose layers stay
}

// choose decides what goes.
func (p *pruning) choose(o PruneOptions, total, keep int64) {
	byLayer := map[snapshot.LayerID]Item{}
	var able []Item
	for _, it := range p.items {
		if !it.Reclaimable || it.with || it.all && !o.All {
			continue
		}
		if it.layer != "" {
			byLayer[it.layer] = it
		}
		if o.Match == nil || o.Match(it) {
			able = append(able, it)
		}
	}
	slices.SortFunc(able, func(a, b Item) int {
		// Of one time, what stands on others goes first.
		return cmp.Or(a.LastUsed.Compare(b.LastUsed), cmp.Compare(b.deep, a.deep), strings.Compare(a.ID, b.ID))
	})
	for _, it := range able {
		if total <= keep && o.Budget != (Budget{}) {
			break
		}
		if p.gone[it.layer] && it.layer != "" {
			continue
		}
		total -= it.Size
		p.take(it)
		if it.layer == "" {
			continue
		}
		for _, other := range p.orphans(it.layer) {
			if also, ok := byLayer[other]; ok && !p.gone[other] {
				total -= also.Size
				p.take(also)
			}
		}
	}
}

func (p *pruning) take(it Item) {
	p.chosen = append(p.chosen, it)
	if it.layer != "" {
		p.gone[it.layer] = true
	}
}

// orphans returns the layers that only the records led to which go with a layer.
func (p *pruning) orphans(id snapshot.LayerID) []snapshot.LayerID {
	var out []snapshot.LayerID
	for _, key := range p.r.layers[id].records {
		for _, stack := range p.r.records[key].Record.Outputs {
			for _, l := range stack {
				u := p.r.layers[l.ID]
				if u == nil || len(u.dangling) > 0 || slices.ContainsFunc(u.records, p.survives) {
					continue
				}
				out = append(out, l.ID)
			}
		}
	}
	return out
}

// survives reports whether no layer of a record is gone.
func (p *pruning) survives(key cache.Key) bool {
	for _, stack := range p.r.records[key].Record.Outputs {
		for _, l := range stack {
			if p.gone[l.ID] {
				return false
			}
		}
	}
	return true
}

// apply removes records before what they name, so that an interruption leaves
// nothing that leads nowhere.
func (p *pruning) apply() error {
	var errs []error
	dead := map[string]bool{}
	for id := range p.gone {
		u := p.r.layers[id]
		for _, key := range u.records {
			if !dead[string(key)] {
				dead[string(key)] = true
				errs = append(errs, p.s.Cache.Remove(key))
			}
		}
		for _, img := range u.dangling {
			if _, err := p.s.Images.RemoveDangling(img); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, it := range p.chosen {
		ok, err := p.remove(it)
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", it.ID, err))
		} else if ok {
			p.out.Items = append(p.out.Items, it)
			p.out.Bytes += it.Size
		}
	}
	images, err := p.s.Images.Holdings() // dangling ones may be gone now
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, p.removeSteps(images), p.removeBlobs(images))...)
}

func (p *pruning) remove(it Item) (bool, error) {
	switch {
	case it.layer != "":
		return true, p.c.Remove(it.layer)
	case it.record != "":
		return true, p.s.Cache.Remove(cache.Key(it.record))
	case it.image != "":
		return p.s.Images.RemoveDangling(it.image)
	case it.locked != "":
		return p.removeLocked(it)
	}
	return true, p.c.Discard(filepath.Join(p.s.Layers.Root(), it.path))
}

// removeLocked moves something away while its lock is held.
func (p *pruning) removeLocked(it Item) (bool, error) {
	lock, err := files.TryLockExisting(it.locked, files.Exclusive)
	if errors.Is(err, files.ErrLocked) {
		return false, nil // somebody has just begun to use it
	}
	defer lock.Release()
	return true, p.c.Discard(filepath.Join(p.s.Layers.Root(), it.path))
}

// removeSteps removes the images of steps whose layers are gone, or all, except
// those that lead to a kept image.
func (p *pruning) removeSteps(images []registry.Holding) error {
	kept := map[string]bool{}
	parents := map[string]string{}
	for _, st := range p.r.steps {
		parents[st.ID] = st.Parent
	}
	for _, img := range images {
		for id := img.V1; id != "" && !kept[id]; id = parents[id] {
			kept[id] = true
		}
	}
	var errs []error
	for _, st := range p.r.steps {
		lost := slices.ContainsFunc(st.Stack, func(l snapshot.Layer) bool {
			return p.gone[l.ID] || p.r.layers[l.ID] == nil && !p.r.pinned(l.ID)
		})
		// The next build of what is not built any more writes it again.
		unused := p.all && !slices.ContainsFunc(st.Stack, func(l snapshot.Layer) bool { return p.r.pinned(l.ID) })
		if (lost || unused) && !kept[st.ID] {
			errs = append(errs, p.s.Images.RemoveStep(st.ID))
		}
	}
	return errors.Join(errs...)
}

// removeBlobs removes configurations and manifests of images that are gone.
func (p *pruning) removeBlobs(images []registry.Holding) error {
	held := map[digest.Digest]bool{}
	for _, img := range images {
		for _, b := range img.Blobs {
			held[b] = true
		}
	}
	var errs []error
	for b := range p.r.blobs {
		if !held[b] {
			errs = append(errs, p.c.RemoveBlob(b))
		}
	}
	return errors.Join(errs...)
}
