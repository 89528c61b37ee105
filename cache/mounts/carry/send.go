package carry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/mounts"
	"layered.build/builder/cache/shared"
)

// maxKnown is how many contents of a place are looked at for chunks that it has.
const maxKnown = 8

// SendMounts implements shared.MountSender with the mounts that were used. One that is as the
// place has it is not sent again. Errors are those of single mounts; the others are sent.
func (c *Carrier) SendMounts(ctx context.Context, to *shared.MountTarget) ([]*shared.Mount, error) {
	s := &sending{c: c, to: to, now: to.Mounts(), fresh: map[digest.Digest]bool{}}
	var errs []error
	for _, dir := range c.folders() {
		if err := s.folder(ctx, dir); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return s.out, errors.Join(errs...)
}

func (c *Carrier) folders() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.dirs), func(d string) bool { return c.used[d].failed })
}

func (c *Carrier) names(dir string) []Name {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.used[dir].names)
}

// sending sends to one place.
type sending struct {
	c   *Carrier
	to  *shared.MountTarget
	now []*shared.Mount // of the place, and what was made for it
	out []*shared.Mount

	mu    sync.Mutex // guards fresh
	fresh map[digest.Digest]bool
}

// folder sends the mount in a folder under all of its names.
func (s *sending) folder(ctx context.Context, dir string) (err error) {
	names := slices.DeleteFunc(s.c.names(dir), func(n Name) bool { return !s.to.Wants(n.ID) })
	if len(names) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cache mount %q: %w", names[0].ID, err)
		}
	}()
	release, err := s.c.opts.Hold(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	e, err := s.content(ctx, dir, names[0])
	if errors.Is(err, mounts.ErrChanged) { // by another build, which may have ended
		e, err = s.content(ctx, dir, names[0])
	}
	if err != nil || e == nil {
		return err
	}
	for _, n := range names {
		o := *e
		o.MountName, o.Key = n.MountName, n.Key
		s.out = append(s.out, o.UsedNow())
	}
	s.now = append([]*shared.Mount{e}, s.now...)
	return nil
}

// content makes sure that the place has what a folder holds; nil if that is nothing.
func (s *sending) content(ctx context.Context, dir string, name Name) (*shared.Mount, error) {
	tree, err := mounts.Scan(ctx, dir, s.c.opts.Maker)
	if err != nil {
		return nil, err
	}
	if len(tree.Entries) == 1 {
		return nil, nil
	}
	listing := digest.Digest(tree.Listing())
	for _, m := range s.now {
		if m.ID == name.ID && m.Variant == name.Variant && m.Listing == listing && s.whole(m) && (s.isFresh(m.Manifest.Digest) || s.to.Trusts(m)) {
			return m, nil
		}
	}
	var e *shared.Mount
	err = s.c.opts.Task(ctx, fmt.Sprintf("exporting cache mount %s to %s", name.ID, s.to), func(ctx context.Context) error {
		e, err = s.send(ctx, tree, s.known(ctx, name))
		return err
	})
	if e != nil {
		e.MountName, e.Listing = name.MountName, listing
	}
	return e, err
}

// isFresh reports whether a blob was stored just now.
func (s *sending) isFresh(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fresh[d]
}

// usable reports whether the place has a blob.
func (s *sending) usable(d digest.Digest) bool { return s.isFresh(d) || s.to.Usable(d) }

// whole reports whether the place has all that a content is in.
func (s *sending) whole(m *shared.Mount) bool {
	return s.usable(m.Manifest.Digest) && !slices.ContainsFunc(m.Packs, func(p shared.MountBlob) bool { return !s.usable(p.Digest) })
}

// known are the chunks that the place has: first of the same mount, then of others. What
// cannot be read is not known.
func (s *sending) known(ctx context.Context, name Name) *mounts.Known {
	order := slices.Clone(s.now)
	slices.SortStableFunc(order, func(a, b *shared.Mount) int {
		switch {
		case a.ID == name.ID && b.ID != name.ID:
			return -1
		case a.ID != name.ID && b.ID == name.ID:
			return 1
		}
		return 0
	})
	k := &mounts.Known{}
	seen := map[digest.Digest]bool{}
	for _, m := range order {
		if len(seen) == maxKnown {
			break
		}
		if seen[m.Manifest.Digest] || !s.usable(m.Manifest.Digest) {
			continue
		}
		seen[m.Manifest.Digest] = true
		if got, err := s.c.manifest(ctx, s.to, m); err == nil {
			k.Add(got, func(p mounts.Pack) bool { return s.usable(p.Digest) })
		}
	}
	return k
}

// send stores what is not known of a tree, and its manifest.
func (s *sending) send(ctx context.Context, tree *mounts.Tree, known *mounts.Known) (*shared.Mount, error) {
	m, _, err := tree.Pack(ctx, known, func(ctx context.Context, p mounts.Pack, data []byte) error {
		return s.store(ctx, shared.MountBlob{Type: shared.MountPack, Digest: p.Digest, Size: p.Size}, data)
	})
	if err != nil {
		return nil, err
	}
	raw, err := m.Encode()
	if err != nil {
		return nil, err
	}
	e := &shared.Mount{
		Manifest: shared.MountBlob{Type: shared.MountManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))},
		Files:    int64(len(m.Entries)), Size: m.Size(), Created: time.Now().Unix(),
	}
	for _, p := range m.Packs {
		e.Packs = append(e.Packs, shared.MountBlob{Digest: p.Digest, Size: p.Size})
	}
	s.c.know(e.Manifest.Digest, raw)
	return e, s.store(ctx, e.Manifest, raw)
}

func (s *sending) store(ctx context.Context, b shared.MountBlob, data []byte) error {
	if err := s.to.Store(ctx, b, data); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh[b.Digest] = true
	return nil
}
