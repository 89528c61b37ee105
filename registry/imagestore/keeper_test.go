package imagestore

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
	"layered.build/builder/snapshot/gc/gctest"
)

// keptAndLost stores an image with a name, and one that has lost it.
func keptAndLost(t *testing.T, s *Store) (kept, lost *image.Image) {
	t.Helper()
	lost = testImage(t, s, "lost", 10, 20)
	kept = testImage(t, s, "kept", 30, 40)
	if err := s.Tag(t.Context(), "kept", "lost"); err != nil {
		t.Fatal(err)
	}
	if err := s.layers.Release(); err != nil {
		t.Fatal(err)
	}
	return kept, lost
}

func TestKeeper(t *testing.T) {
	s := open(t)
	kept, lost := keptAndLost(t, s)
	found, err := s.Keeper().Items(t.Context())
	if err != nil || len(found.Items) != 2 {
		t.Fatalf("items %+v, %v", found.Items, err)
	}
	slices.SortFunc(found.Items, func(a, b gc.Item) int { return int(a.Rule) - int(b.Rule) })
	if it := found.Items[0]; it.Rule != gc.Free || it.ID != lost.ID.String() || !needs(it.Needs, lost) {
		t.Errorf("without a name is %+v", it)
	}
	if it := found.Items[1]; it.Rule != gc.Kept || it.ID != kept.ID.String() || !needs(it.Needs, kept) {
		t.Errorf("a name keeps %+v", it)
	}
	if n := len(found.Items[1].Needs.Layers); n != 3 { // of the image and of its steps
		t.Errorf("%d stacks are kept", n)
	}
	gctest.Run(t, s.layers, s.Keeper(), gc.KindImage)
	if all, err := s.List(); err != nil || len(all) != 1 || all[0].ID != kept.ID {
		t.Errorf("left are %v, %v", all, err)
	}
}

// An image with a name goes if it was not used since it was listed.
func TestUnused(t *testing.T) {
	s := open(t)
	kept, _ := keptAndLost(t, s)
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(s.recordPath(kept.ID), long, long); err != nil {
		t.Fatal(err)
	}
	listed := func() gc.Item {
		t.Helper()
		found, err := s.Keeper().Items(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found.Items[slices.IndexFunc(found.Items, func(it gc.Item) bool { return it.Rule == gc.Kept })]
	}
	old := listed()
	if !old.LastUsed.Equal(long.Truncate(0)) && old.LastUsed.Sub(long).Abs() > time.Second {
		t.Errorf("was used at %v, not %v", old.LastUsed, long)
	}
	if _, err := s.ResolveLocal("kept"); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Keeper().Remove(nil, old); ok || err != nil {
		t.Errorf("was removed though it was used: %v, %v", ok, err)
	}
	if ok, err := s.Keeper().Remove(nil, listed()); !ok || err != nil {
		t.Errorf("was not removed: %v", err)
	}
	if _, err := s.ResolveLocal("kept"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("is still known: %v", err)
	}
}

func needs(n gc.Needs, img *image.Image) bool {
	return slices.Contains(n.Blobs, img.ID) && len(n.Layers) > 0 && n.Layers[0][0].ID == img.Stack[0].ID
}

// Steps go with their layers, and where all is asked for also without, unless they led to
// an image that stays.
func TestSweep(t *testing.T) {
	for _, c := range []struct {
		name             string
		layers, all, use bool // the layers of the lost image are gone; all is asked for; it is in use
		left             int
	}{
		{"nothing is gone", false, false, false, 4},
		{"layers are gone", true, false, false, 2},
		{"all", false, true, false, 2},
		{"all, while they are used", false, true, true, 4},
	} {
		s := open(t)
		kept, lost := keptAndLost(t, s)
		if c.use {
			for _, l := range lost.Stack {
				s.layers.Has(l.ID)
			}
		}
		err := s.layers.Collect(t.Context(), func(col *snapshot.Collection) error {
			found, err := s.Keeper().Items(t.Context())
			if err != nil {
				return err
			}
			if _, err := s.removeDangling(lost.ID); err != nil {
				return err
			}
			for _, l := range lost.Stack {
				if !c.layers {
					break
				}
				if err := col.Remove(l.ID); err != nil {
					return err
				}
			}
			return found.Sweep(col, c.all)
		})
		if err != nil {
			t.Fatal(err)
		}
		steps, err := s.steps()
		if err != nil || len(steps) != c.left {
			t.Errorf("%s: %d steps are left, want %d, %v", c.name, len(steps), c.left, err)
		}
		if chain, err := s.V1Chain(kept.V1); err != nil || len(chain) != 2 {
			t.Errorf("%s: %d steps led to the image that stays, %v", c.name, len(chain), err)
		}
	}
}
