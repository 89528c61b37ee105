package shared

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxVersions is how many contents of a mount an index keeps, those that were used last.
const maxVersions = 4

// MountName tells cache mounts apart.
type MountName struct {
	// ID is that of the Dockerfile.
	ID string
	// Variant tells apart mounts with one id that begin differently, such as those with
	// another "from" or owner; "" is the usual one.
	Variant string `json:",omitempty"`
	// Platform is that of the steps that use it.
	Platform string
}

// Mount is what an index says of one content of a cache mount.
type Mount struct {
	MountName
	// Key stands for what the content belongs to, such as a list of versions; "" for nothing.
	Key string `json:",omitempty"`
	// Listing is a digest of names, times and sizes: a mount that has the same is the same.
	Listing digest.Digest
	// Manifest and Packs are the blobs that the content is in.
	Manifest MountBlob
	Packs    []MountBlob `json:",omitempty"`
	// Files and Size are how many objects and bytes the content has.
	Files, Size int64
	Created     int64 // seconds since 1970
	Used        int64 // the day of the last use, counted from 1970

	mark
}

// MountBlob is a blob of a mount; Type is its media type, which is in no index.
type MountBlob struct {
	Type   string `json:"-"`
	Digest digest.Digest
	Size   int64
}

// The media types of what mounts are in.
const (
	MountManifest = "application/vnd.builder.cache.mount.v1+zstd"
	MountPack     = "application/vnd.builder.cache.pack.v1"
)

func (b MountBlob) blob(kind string) Blob {
	return Blob{Descriptor: ocispec.Descriptor{MediaType: kind, Digest: b.Digest, Size: b.Size}}
}

func (b MountBlob) valid() bool { return b.Digest.Validate() == nil && b.Size >= 0 }

// blobs are all that the content is in.
func (m *Mount) blobs() []Blob {
	out := []Blob{m.Manifest.blob(MountManifest)}
	for _, p := range m.Packs {
		out = append(out, p.blob(MountPack))
	}
	return out
}

// check makes sure that an entry says what it has to.
func (m *Mount) check() error {
	if m == nil || !m.Manifest.valid() || m.Listing.Validate() != nil || m.Files < 0 || m.Size < 0 || !isTime(m.Created) {
		return fmt.Errorf("%w: a cache mount", errIndex)
	}
	for _, p := range m.Packs {
		if !p.valid() {
			return fmt.Errorf("%w: cache mount %q", errIndex, m.ID)
		}
	}
	return nil
}

// UsedNow is the entry as one that is used today.
func (m Mount) UsedNow() *Mount {
	m.Used = today()
	return &m
}

// LastUsed is the day of the last use.
func (m *Mount) LastUsed() time.Time { return time.Unix(m.Used*24*60*60, 0).UTC() }

// sameMount reports whether two entries are contents of the same mount for the same key, of
// which an index has one.
func sameMount(a, b *Mount) bool { return a.MountName == b.MountName && a.Key == b.Key }

// latestFirst orders entries by last use.
func latestFirst(a, b *Mount) int {
	return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(b.Created, a.Created))
}

// addMount adds an entry; it takes the place of one of the same mount and key.
func (w *writer) addMount(m *Mount) {
	m = w.marked(m)
	if at := slices.IndexFunc(w.out.Mounts, func(o *Mount) bool { return sameMount(o, m) }); at >= 0 {
		w.out.Mounts[at] = m
		return
	}
	w.out.Mounts = append(w.out.Mounts, m)
}

// marked is an entry with its mark in the index that is made.
func (w *writer) marked(m *Mount) *Mount {
	if m.sig == nil {
		return m
	}
	signed := *m
	signed.mark = w.mark(m.mark)
	return &signed
}

// latestMounts are the entries that an index may have, the latest first.
func (w *writer) latestMounts() []*Mount {
	sorted := slices.Clone(w.out.Mounts)
	slices.SortStableFunc(sorted, latestFirst)
	versions := map[MountName]int{}
	return slices.DeleteFunc(sorted, func(m *Mount) bool {
		versions[m.MountName]++
		return versions[m.MountName] > maxVersions
	})
}

// room counts blobs that are kept, each once, up to a size.
type room struct {
	max  int64 // 0: any
	size int64
	have map[digest.Digest]bool
}

// take counts blobs, unless they do not fit.
func (r *room) take(blobs []Blob) bool {
	var more int64
	fresh := map[digest.Digest]bool{}
	for _, b := range blobs {
		if !r.have[b.Digest] && !fresh[b.Digest] {
			fresh[b.Digest] = true
			more += b.Size
		}
	}
	if r.max > 0 && r.size+more > r.max {
		return false
	}
	r.size += more
	for d := range fresh {
		r.have[d] = true
	}
	return true
}
