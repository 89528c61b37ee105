package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	first, err := snapshot.Open(root, snapshot.Options{}) // what is in a new one is not measured at once
	if err == nil {
		err = first.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	layers, err := snapshot.Open(root, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layers.Close() })
	return &Store{Layers: layers, Keepers: []gc.Keeper{gc.Layers(layers)}}
}

func writeLayer(t *testing.T, s *snapshot.Store, name string) snapshot.Layer {
	t.Helper()
	l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{{Entry: snapshot.Entry{Path: name, Type: snapshot.TypeDir, Mode: 0o755}}}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// gone returns which of some paths do not exist.
func gone(t *testing.T, paths []string) []string {
	t.Helper()
	var out []string
	for _, p := range paths {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			out = append(out, p)
		} else if err != nil {
			t.Error(err)
		}
	}
	return out
}

// everything is a budget that leaves nothing: no disk has so much free.
var everything = Budget{MinFree: 1 << 62}

// TestAutoWhilePlanning proves that a collection that finds the disk full removes nothing
// that the same store has used before, or uses at the same time, as the one at the start
// of a build does while the build is planned; and that all can go after Release.
func TestAutoWhilePlanning(t *testing.T) {
	s := openStore(t)
	var before []string
	for i := range 10 {
		before = append(before, s.layerPath(writeLayer(t, s.Layers, fmt.Sprint("before-", i)).ID))
		d, err := s.Layers.Blobs().Put(t.Context(), fmt.Append(nil, "before-", i))
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, s.Layers.Blobs().Path(d))
	}
	ctx, stop := context.WithCancel(t.Context())
	var collecting sync.WaitGroup
	runs := 0
	collecting.Go(func() {
		for ctx.Err() == nil {
			s.forget(t) // otherwise it is believed what was measured just now
			pruned, err := s.Auto(ctx, everything)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			if pruned != nil {
				runs++
			}
		}
	})
	seen := plan(t, s)
	stop()
	collecting.Wait()
	if runs == 0 {
		t.Fatal("nothing was collected")
	}
	if lost := gone(t, append(before, seen...)); len(lost) > 0 {
		t.Errorf("%d of %d things that were in use are gone, such as %s", len(lost), len(before)+len(seen), lost[0])
	}

	if err := s.Layers.Release(); err != nil {
		t.Fatal(err)
	}
	s.forget(t)
	if _, err := s.Auto(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	if lost := gone(t, before); len(lost) != len(before) {
		t.Errorf("after the build %d of %d things are still there", len(before)-len(lost), len(before))
	}
}

// plan uses what a Store of another build has made or pulled, and makes more.
func plan(t *testing.T, s *Store) (seen []string) {
	t.Helper()
	other, err := snapshot.Open(s.Layers.Root(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for i := range 60 {
		l := writeLayer(t, other, fmt.Sprint("other-", i))
		d, err := other.Blobs().Put(t.Context(), fmt.Append(nil, "other-", i))
		if err != nil {
			t.Fatal(err)
		}
		if !s.Layers.Has(l.ID) || !s.Layers.Blobs().Has(d) {
			t.Error("what another build holds is gone")
		}
		seen = append(seen, s.layerPath(l.ID), s.Layers.Blobs().Path(d), s.layerPath(writeLayer(t, s.Layers, fmt.Sprint("own-", i)).ID))
		if err := other.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if s.Layers.Blobs().Has(digest.FromString("none")) {
		t.Error("there is what nobody made")
	}
	return seen
}

// forget makes it unknown how large the store is.
func (s *Store) forget(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.Layers.Root(), "room.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func (s *Store) layerPath(id snapshot.LayerID) string {
	return filepath.Join(s.Layers.Root(), "layers", string(id))
}
