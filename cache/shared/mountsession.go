package shared

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
)

// MountSender stores contents of cache mounts.
type MountSender interface {
	// SendMounts stores what a place lacks of the mounts that it is to have, and describes
	// them. It is called by one goroutine for each place; again if what the place was
	// believed to have is gone.
	SendMounts(ctx context.Context, to *MountTarget) ([]*Mount, error)
}

// FoundMount is a content that a place has.
type FoundMount struct {
	Mount
	// Scope is the one that it was found in.
	Scope string

	from *importer
}

// AllMounts lists the contents that the places have, those that were used last first.
func (s *Session) AllMounts(ctx context.Context) ([]*FoundMount, error) {
	var out []*FoundMount
	for _, i := range s.sources {
		scopes, err := i.load(ctx)
		if err != nil {
			return nil, err
		}
		for _, sc := range scopes {
			for _, m := range sc.index.Mounts {
				if i.Mounts.Has(m.ID) && i.verifyMount(sc, m) {
					out = append(out, &FoundMount{*m, sc.name, i})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *FoundMount) int { return latestFirst(&a.Mount, &b.Mount) })
	return out, nil
}

// Mounts lists what the places have of a mount, the best first: what belongs to the key,
// then what was used last in each scope, in their order.
func (s *Session) Mounts(ctx context.Context, name MountName, key string) ([]*FoundMount, error) {
	var exact, others []*FoundMount
	for _, i := range s.sources {
		if !i.Mounts.Has(name.ID) {
			continue
		}
		scopes, err := i.load(ctx)
		if err != nil {
			return nil, err
		}
		for _, sc := range scopes {
			var here []*Mount
			for _, m := range sc.index.Mounts {
				if m.MountName == name && i.verifyMount(sc, m) {
					here = append(here, m)
				}
			}
			slices.SortStableFunc(here, latestFirst)
			for _, m := range here {
				f := &FoundMount{*m, sc.name, i}
				if m.Key == key {
					exact = append(exact, f)
				} else {
					others = append(others, f)
				}
			}
		}
	}
	return append(exact, others...), nil
}

// Place names, for people, where the content is.
func (m *FoundMount) Place() string { return m.from.String() }

// Open reads a blob of the content; the caller closes the reader, and verifies what it gives.
func (m *FoundMount) Open(ctx context.Context, b MountBlob) (io.ReadCloser, error) {
	return newReader(ctx, m.from.Backend, b.blob(b.Type), 0)
}

// Spoiled says that a blob of the content is not what it should be, or gone: it is sent again
// if the place is exported to.
func (m *FoundMount) Spoiled(d digest.Digest) {
	s := m.from.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoiled[m.Place()+" "+string(d)] = true
}

// MountTarget is a place that contents of mounts are sent to, and its index as it is now.
type MountTarget struct {
	t   *exporter
	now *loadedScope
}

// String names the place for people.
func (m *MountTarget) String() string { return m.t.String() }

// Wants reports whether a mount is sent there.
func (m *MountTarget) Wants(id string) bool { return m.t.Mounts.Has(id) }

// Mounts are those that the index has, the latest first.
func (m *MountTarget) Mounts() []*Mount {
	if m.t.Reset {
		return nil
	}
	out := slices.Clone(m.now.index.Mounts)
	slices.SortStableFunc(out, latestFirst)
	return out
}

// Open reads a blob of a mount that the index has; the caller closes the reader, and verifies
// what it gives.
func (m *MountTarget) Open(ctx context.Context, b MountBlob) (io.ReadCloser, error) {
	return newReader(ctx, m.t.Backend, b.blob(b.Type), 0)
}

// Usable reports whether the index names a blob, and it is not known to be damaged or gone.
func (m *MountTarget) Usable(d digest.Digest) bool {
	return m.t.has(d) && !m.t.session.isSpoiled(m.t.String(), d)
}

// Trusts reports whether an entry of the index may stay as it is: if what is exported is
// signed, only what the same key has signed.
func (m *MountTarget) Trusts(e *Mount) bool { return m.t.signs.satisfiedMount(m.now, e) }

// Store stores a blob unless the place has it. It is safe for concurrent use.
func (m *MountTarget) Store(ctx context.Context, b MountBlob, data []byte) error {
	blob := b.blob(b.Type)
	content := func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	}
	return m.t.store(ctx, blob, content, m.t.session.isSpoiled(m.t.String(), b.Digest))
}

func (s *Session) isSpoiled(place string, d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spoiled[place+" "+string(d)]
}

// sendMounts sends the mounts that the place is to have. What goes wrong is told.
func (t *exporter) sendMounts(ctx context.Context, now *loadedScope) error {
	t.mounts = nil
	if t.session.opts.Mounts == nil || t.Mounts.None() {
		return nil
	}
	ms, err := t.session.opts.Mounts.SendMounts(ctx, &MountTarget{t, now})
	if err != nil && (t.Strict || ctx.Err() != nil) {
		return err
	}
	if err != nil {
		t.session.tellOnce(fmt.Sprintf("export cache mounts to %s: %v", t, err), "")
	}
	t.mounts = ms
	return nil
}

// mountNews reports whether an index lacks any of the mounts, or the use of one today.
func (t *exporter) mountNews(sc *loadedScope) bool {
	if slices.ContainsFunc(sc.index.Mounts, func(m *Mount) bool { return t.Forget.Has(m.ID) }) {
		return true
	}
	return slices.ContainsFunc(t.mounts, func(m *Mount) bool {
		return !slices.ContainsFunc(sc.index.Mounts, func(o *Mount) bool {
			return sameMount(o, m) && o.Manifest.Digest == m.Manifest.Digest && o.Used >= m.Used && t.signs.satisfiedMount(sc, o)
		})
	})
}

// resendMounts sends the mounts again if blobs of theirs are gone: what they stand on was
// removed with an index that another writer has replaced.
func (t *exporter) resendMounts(ctx context.Context, now *loadedScope) error {
	lost, err := t.lookAgain(ctx, now, t.mountBlobs(), func(digest.Digest) bool { return true })
	if err != nil || !lost {
		return err
	}
	t.know(now)
	return t.sendMounts(ctx, now)
}

// mountBlobs are what the mounts that are exported are in.
func (t *exporter) mountBlobs() []Blob {
	var out []Blob
	for _, m := range t.mounts {
		out = append(out, m.blobs()...)
	}
	return out
}

// keepWritten forgets what was not written since there is no room for it: the place lacks it,
// and that is no news.
func (t *exporter) keepWritten(x *index, recs map[cache.Key]*cache.Record) {
	there := x.byKey()
	maps.DeleteFunc(recs, func(k cache.Key, _ *cache.Record) bool { return there[k] == nil })
	t.mounts = slices.DeleteFunc(t.mounts, func(m *Mount) bool {
		return !slices.ContainsFunc(x.Mounts, func(o *Mount) bool { return sameMount(o, m) && o.Manifest.Digest == m.Manifest.Digest })
	})
}
