package snapshot_test

import (
	"context"
	"errors"
	"testing"

	"layered.build/builder/snapshot"
)

// TestRemoveInUse: what a store has mounted is not removed, until it is given back.
func TestRemoveInUse(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "x")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if used, err := s.InUse(l.ID); err != nil || used {
		t.Errorf("in use before: %v %v", used, err)
	}
	stillThere := func(what string) {
		t.Helper()
		if used, err := s.InUse(l.ID); err != nil || !used {
			t.Errorf("%s: in use: %v %v", what, used, err)
		}
		if err := s.Remove(t.Context(), l.ID); !errors.Is(err, snapshot.ErrInUse) || !s.Has(l.ID) {
			t.Errorf("%s: remove: %v", what, err)
		}
	}
	a, err := s.Prepare(t.Context(), snapshot.Stack{l})
	if err != nil {
		t.Fatal(err)
	}
	stillThere("active")
	if err := a.Discard(); err != nil {
		t.Fatal(err)
	}
	if used, err := s.InUse(l.ID); err != nil || used {
		t.Errorf("in use after Discard: %v %v", used, err)
	}
	if _, err := s.View(t.Context(), snapshot.Stack{l}); err != nil {
		t.Fatal(err)
	}
	stillThere("view")
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), l.ID); err != nil || s.Has(l.ID) {
		t.Errorf("remove what was given back: %v", err)
	}
	if err := s.Remove(t.Context(), l.ID); err != nil {
		t.Errorf("remove what is gone: %v", err)
	}
}

// TestRemoveWaits: nothing is removed while a process writes down what it uses.
func TestRemoveWaits(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "x")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Collect(t.Context(), func(*snapshot.Collection) error {
		cancel()
		return s.Remove(ctx, l.ID)
	})
	if !errors.Is(err, context.Canceled) || !s.Has(l.ID) {
		t.Errorf("removed while the store was locked: %v", err)
	}
}

// TestHasForgets: a layer that a store has seen is not there any more when it was removed,
// whoever did that.
func TestHasForgets(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	other := openAt(t, s.Root())
	in := func(s *snapshot.Store, fn func(*snapshot.Collection, snapshot.LayerID) error) func(snapshot.LayerID) error {
		return func(id snapshot.LayerID) error {
			return s.Collect(t.Context(), func(c *snapshot.Collection) error { return fn(c, id) })
		}
	}
	for name, remove := range map[string]func(snapshot.LayerID) error{
		"Remove":         func(id snapshot.LayerID) error { return s.Remove(t.Context(), id) },
		"RemoveBroken":   in(s, (*snapshot.Collection).RemoveBroken),
		"other's Remove": func(id snapshot.LayerID) error { return errors.Join(s.Release(), other.Remove(t.Context(), id)) },
		"other's, by many": func(id snapshot.LayerID) error {
			return errors.Join(s.Release(), in(other, (*snapshot.Collection).Remove)(id))
		},
	} {
		l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", name)}, snapshot.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if !s.Has(l.ID) {
				t.Fatal("the layer is not there")
			}
		}
		if err := in(other, (*snapshot.Collection).Remove)(l.ID); err != nil || !s.Has(l.ID) {
			t.Errorf("%s: what the store has seen was removed by another: %v", name, err)
		}
		if err := remove(l.ID); err != nil || s.Has(l.ID) {
			t.Errorf("%s: %v; still there: %t", name, err, s.Has(l.ID))
		}
	}
}
