package gc_test

import (
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
	"layered.build/builder/snapshot/gc/gctest"
)

func openStore(t *testing.T) *snapshot.Store {
	t.Helper()
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func writeLayer(t *testing.T, s *snapshot.Store, name string) snapshot.Layer {
	t.Helper()
	l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{{Entry: snapshot.Entry{Path: name, Type: snapshot.TypeDir, Mode: 0o755}}}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLayers(t *testing.T) {
	s := openStore(t)
	writeLayer(t, s, "a")
	writeLayer(t, s, "b")
	if _, err := s.Blobs().Put(t.Context(), []byte("blob")); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	gctest.Run(t, s, gc.Layers(s), gc.KindRegular, gc.KindBlob)
}

// What a process uses stays, whoever asks.
func TestPinnedLayersStay(t *testing.T) {
	s := openStore(t)
	l := writeLayer(t, s, "a")
	d, err := s.Blobs().Put(t.Context(), []byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	k := gc.Layers(s)
	contents, err := k.Items(t.Context())
	if err != nil || len(contents.Items) != 2 {
		t.Fatalf("%d items, %v", len(contents.Items), err)
	}
	err = s.Collect(t.Context(), func(c *snapshot.Collection) error {
		for _, it := range contents.Items {
			if ok, err := k.Remove(c, it); ok || err != nil {
				t.Errorf("remove %s: %v, %v", it.ID, ok, err)
			}
		}
		return nil
	})
	if err != nil || !s.Has(l.ID) || !s.Blobs().Has(d) {
		t.Errorf("something is gone; %v", err)
	}
}
