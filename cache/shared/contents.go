package shared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

// Contents are what scopes of a place held when they were read.
type Contents struct {
	from   Source
	scopes []*loadedScope
}

// Scoped is implemented by places that know which scopes they have.
type Scoped interface {
	// Scopes lists the names of scopes.
	Scopes(ctx context.Context) ([]string, error)
}

// ReadContents reads indexes: those of the scopes that are named, otherwise all that the
// place knows of. The error matches fs.ErrNotExist if one of them is not there.
func ReadContents(ctx context.Context, from Source) (*Contents, error) {
	c := &Contents{from: from}
	names := from.Scopes
	if s, ok := from.Backend.(Scoped); ok && len(names) == 0 {
		var err error
		if names, err = s.Scopes(ctx); err != nil {
			return nil, fmt.Errorf("read cache %s: %w", from, err)
		}
	} else if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		sc, err := readScope(ctx, from.Backend, name)
		if err != nil && name != "" {
			return nil, fmt.Errorf("read cache %s: scope %s: %w", from, name, err)
		}
		if err != nil {
			return nil, fmt.Errorf("read cache %s: %w", from, err)
		}
		c.scopes = append(c.scopes, sc)
	}
	return c, nil
}

// Scopes are the names of the scopes that were read.
func (c *Contents) Scopes() []string {
	var names []string
	for _, sc := range c.scopes {
		names = append(names, sc.name)
	}
	return names
}

// Entry is a record of a place.
type Entry struct {
	Scope           string
	Key, Definition cache.Key
	Created         time.Time
	// Used is the day of the last use.
	Used     time.Time
	Duration time.Duration
	// Size is how many bytes the compressed layers have that the place has.
	Size int64
	// Layers are those of all outputs.
	Layers []EntryLayer
	// Parts are the names of what went into the key.
	Parts []string
	// Signer is the name of the key that an entry is signed with, as far as it says, "?" if it
	// does not say, "" if it is not signed. Nothing is verified.
	Signer string
}

// EntryLayer is a layer of a record. Blob is nil if the place has no form of it.
type EntryLayer struct {
	DiffID snapshot.DiffID
	Blob   *Blob
}

// Entries lists all records, those that were used last first.
func (c *Contents) Entries() []Entry {
	var all []Entry
	for _, sc := range c.scopes {
		for _, r := range sc.index.Records {
			all = append(all, sc.entry(r))
		}
	}
	slices.SortStableFunc(all, func(a, b Entry) int {
		if n := b.Used.Compare(a.Used); n != 0 {
			return n
		}
		return b.Created.Compare(a.Created)
	})
	return all
}

func (sc *loadedScope) entry(r *record) Entry {
	e := Entry{
		Scope: sc.name, Key: r.Key, Definition: r.Definition, Created: time.Unix(r.Created, 0),
		Used: time.Unix(r.Used*24*60*60, 0).UTC(), Duration: time.Duration(r.Duration) * time.Millisecond,
	}
	for _, ls := range sc.index.outputs(r) {
		for _, l := range ls {
			el := EntryLayer{DiffID: l.DiffID}
			if l.Blob != nil {
				el.Blob = &Blob{Descriptor: *l.Blob, DiffID: l.DiffID}
				e.Size += l.Blob.Size
			}
			e.Layers = append(e.Layers, el)
		}
	}
	for _, p := range r.Parts.List() {
		e.Parts = append(e.Parts, p.Name)
	}
	switch {
	case r.sig != nil && r.sig.Key == "":
		e.Signer = "?"
	case r.sig != nil:
		e.Signer = r.sig.Key
	}
	return e
}

// editFunc makes the index that takes the place of another; nil: that one may stay.
type editFunc func(old *loadedScope) (*index, error)

// edit replaces the index of a scope by what fn makes of it, until fn leaves it as it is or
// it was written and nobody else wrote.
func edit(ctx context.Context, b Backend, scope string, fn editFunc) error {
	for round := range rounds {
		old, err := readScope(ctx, b, scope)
		if errors.Is(err, fs.ErrNotExist) {
			old, err = newLoadedScope(scope, "", &index{}), nil
		}
		if err != nil {
			return err
		}
		x, err := fn(old)
		if err != nil || x == nil {
			return err
		}
		data, err := x.encode()
		if err != nil {
			return err
		}
		err = b.Replace(ctx, scope, data, x.blobs(), old.version)
		if err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		if err == nil {
			if err := removeUnnamed(ctx, b, old.index.blobs(), x); err != nil {
				return err
			}
			if l, ok := b.(Loose); !ok || !l.Loose() {
				return nil
			}
		}
		pause(ctx, round)
	}
	return fmt.Errorf("others replaced the index %d times: %w", rounds, ErrConflict)
}

// Remove removes records of a scope, and with them the blobs that no other names, as far as
// the place can. It returns how many there were.
func Remove(ctx context.Context, b Backend, scope string, keys []cache.Key) (int, error) {
	removed := map[cache.Key]bool{}
	err := edit(ctx, b, scope, func(old *loadedScope) (*index, error) {
		w, gone := newWriter(), 0
		for _, r := range old.index.Records {
			if slices.Contains(keys, r.Key) {
				removed[r.Key] = true
				gone++
				continue
			}
			w.add(*r, old.index.outputs(r))
		}
		for _, m := range old.index.Mounts {
			w.addMount(m)
		}
		if gone == 0 {
			return nil, nil
		}
		return &w.out, nil
	})
	return len(removed), err
}
