package collect

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// The kinds of what a store holds; BuildKit's names where it has one.
const (
	KindImage    = "image"               // layers of images with a name, and of runs
	KindRegular  = "regular"             // layers and records of the build cache
	KindMount    = "exec.cachemount"     // cache mounts
	KindContext  = "source.local"        // what files of build contexts hash to
	KindGit      = "source.git.checkout" // repositories and checkouts
	KindHTTP     = "source.http"         // downloads
	KindBlob     = "blob"                // compressed layers, configurations, manifests
	KindLog      = "log"                 // output of steps
	KindRun      = "run"                 // kept runs
	KindInternal = "internal"            // everything else
)

// Item is one thing that a store holds.
type Item struct {
	ID          string
	Kind        string
	Size        int64 // bytes on disk
	LastUsed    time.Time
	InUse       bool // a running process uses it
	Reclaimable bool
	Description string `json:",omitempty"`

	layer  snapshot.LayerID
	record string // key of a record that goes alone
	image  digest.Digest
	path   string // below the store
	locked string // file whose lock says that it is used
	deep   int
	with   bool // goes with a layer
	all    bool // goes only when all is asked for
}

// Mutable reports whether steps write to the thing, or it follows what is elsewhere:
// cache mounts and sources.
func (it Item) Mutable() bool {
	switch it.Kind {
	case KindMount, KindContext, KindGit, KindHTTP:
		return true
	}
	return false
}

// Shared reports whether images with a name, or runs, use the thing, and not only the
// build cache.
func (it Item) Shared() bool { return it.Kind == KindImage && it.image == "" || it.Kind == KindRun }

// items makes the list of what the store holds.
func items(root string, parts map[string]part, r *refs) []Item {
	var out []Item
	for name, p := range parts {
		top, base := filepath.Split(name)
		var it Item
		switch {
		case top == "layers/":
			it = r.layerItem(snapshot.LayerID(base))
		case top == "blobs/sha256/":
			it = r.blobItem(base)
		case strings.HasPrefix(name, "cache/") && strings.HasSuffix(name, ".json"):
			it = r.recordItem("sha256:" + strings.TrimSuffix(base, ".json"))
		default:
			it = otherItem(root, name)
		}
		if it.ID == "" {
			it.ID = name
		}
		it.path, it.Size = name, p.bytes
		if it.LastUsed.IsZero() {
			it.LastUsed = p.touched
		}
		out = append(out, it)
	}
	return append(out, r.danglingItems()...)
}

func (r *refs) layerItem(id snapshot.LayerID) Item {
	it := Item{ID: string(id), Kind: KindRegular, InUse: r.pinned(id)}
	u := r.layers[id]
	if u == nil { // made meanwhile
		it.InUse = true
		return it
	}
	it.layer, it.deep, it.LastUsed, it.Description = id, u.depth, u.lastUsed, u.step
	it.Reclaimable = r.removable(u)
	if u.named {
		it.Kind = KindImage
	}
	return it
}

func (r *refs) blobItem(hex string) Item {
	d := digest.NewDigestFromEncoded(digest.SHA256, hex)
	used := r.pins.PinnedBlob(d)
	it := Item{ID: d.String(), Kind: KindBlob, InUse: used, Reclaimable: !used && !r.blobs[d]}
	if d.Validate() != nil {
		it.Kind, it.Reclaimable = KindInternal, false
	}
	return it
}

// recordItem is a record of the build cache. One that leads to a layer of the cache
// goes with the layer.
func (r *refs) recordItem(key string) Item {
	it := Item{ID: key, Kind: KindRegular, record: key}
	e, ok := r.records[cache.Key(key)]
	if !ok {
		it.Kind = KindInternal
		return it
	}
	it.LastUsed, it.Description = e.LastUsed, e.Record.Step
	if r.recordOnDisk(e) {
		it.record, it.with, it.Reclaimable = "", true, true
		return it
	}
	for _, stack := range e.Record.Outputs {
		for _, l := range stack {
			it.InUse = it.InUse || r.pinned(l.ID)
			it.all = it.all || r.layers[l.ID] != nil // the cache of a kept image
		}
	}
	it.Reclaimable = !it.InUse
	return it
}

// danglingItems are the records of images without a name. Their layers are items
// of their own.
func (r *refs) danglingItems() []Item {
	var out []Item
	for _, img := range r.images {
		if len(img.Names) == 0 {
			used := r.imagePinned(img)
			out = append(out, Item{
				ID: img.ID.String(), Kind: KindImage, Description: "image without a name", LastUsed: img.LastUsed,
				InUse: used, Reclaimable: !used, image: img.ID, deep: len(img.Stack) + 1,
			})
		}
	}
	return out
}

// keepFresh is how long a thing that was just touched counts as used where its user
// holds no lock.
const keepFresh = time.Minute

func otherItem(root, name string) Item {
	it := Item{Kind: kindOf(name)}
	if !strings.Contains(name, "/") {
		it.Kind = KindInternal // the folder of all of them
		return it
	}
	full := filepath.Join(root, name)
	switch it.Kind {
	case KindMount:
		if strings.HasSuffix(name, ".lock") || strings.HasPrefix(filepath.Base(name), "new-") {
			it.Kind = KindInternal
			return it
		}
		it.locked = full + ".lock"
		if fi, err := os.Stat(it.locked); err == nil {
			it.LastUsed = fi.ModTime()
		}
		it.InUse = files.IsLocked(it.locked, files.Exclusive)
	case KindGit, KindHTTP:
		if strings.Count(name, "/") < 3 {
			it.Kind = KindInternal
			return it
		}
		it.locked = full
		fi, err := os.Lstat(full)
		it.InUse = err != nil || time.Since(fi.ModTime()) < keepFresh || files.IsLocked(full, files.Exclusive)
	case KindContext, KindLog:
		it.all = true
	default:
		return it
	}
	it.Reclaimable = !it.InUse
	return it
}

// Usage is what a store holds.
type Usage struct {
	Items []Item
	Total int64 // bytes on disk
}

// Usage measures the store.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	parts, total, err := measure(ctx, s.Layers.Root())
	if err != nil {
		return nil, err
	}
	pins, err := s.Layers.Pins()
	if err != nil {
		return nil, err
	}
	r, err := s.read(ctx, pins)
	if err != nil {
		return nil, err
	}
	return &Usage{Items: items(s.Layers.Root(), parts, r), Total: total}, nil
}
