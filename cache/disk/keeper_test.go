package disk

import (
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/cache/cachetest"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
	"layered.build/builder/snapshot/gc/gctest"
)

func TestKeeper(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root := filepath.Join(s.Root(), Folder)
	c, _ := open(t, root)
	for _, name := range []string{"a", "b"} {
		rec := cachetest.Record(name, "layer of "+name)
		rec.Definition = cachetest.Key(name) // so that its name is noted
		if err := c.Put(t.Context(), rec.Definition, rec); err != nil {
			t.Fatal(err)
		}
	}
	contents, err := c.Keeper().Items(t.Context())
	if err != nil || len(contents.Items) != 2 {
		t.Fatalf("%d items, %v", len(contents.Items), err)
	}
	for _, it := range contents.Items {
		if len(it.Needs.Layers) != 1 || string(it.Needs.Layers[0][0].ID) != "layer of "+it.Description {
			t.Errorf("the record of %s needs %v", it.Description, it.Needs.Layers)
		}
	}
	gctest.Run(t, s, c.Keeper(), gc.KindRegular)
	if err := c.Keeper().(gc.Tidier).Tidy(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "names")); err != nil || len(left) != 0 {
		t.Errorf("%d names are left of records that are gone, %v", len(left), err)
	}
}

// A damaged record is found, may go at any time, and is gone once it is repaired.
func TestCheck(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, _ := open(t, filepath.Join(s.Root(), Folder))
	key := cachetest.Key("k")
	if err := c.Put(t.Context(), key, cachetest.Record("step", "l1")); err != nil {
		t.Fatal(err)
	}
	p, err := c.path(key)
	if err == nil {
		err = os.Truncate(p, 40)
	}
	if err != nil {
		t.Fatal(err)
	}
	contents, err := c.Keeper().Items(t.Context())
	if err != nil || len(contents.Items) != 1 || contents.Items[0].Needs.Layers != nil {
		t.Errorf("items of a damaged record: %+v, %v", contents.Items, err)
	}
	for want := 1; want >= 0; want-- {
		var found []gc.Problem
		x := &gc.Check{Report: func(p gc.Problem) { found = append(found, p) }}
		if err := c.Keeper().(gc.Checker).Check(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if len(found) != want || x.Problems != want || x.Records != want {
			t.Errorf("found %v, counted %+v, want %d", found, x.Checked, want)
		}
		for _, p := range found {
			if err := p.Repair(nil); err != nil || p.Object != "record "+string(key) {
				t.Errorf("repair %s: %v", p.Object, err)
			}
		}
	}
}
