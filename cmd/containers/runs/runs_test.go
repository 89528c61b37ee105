package runs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cmd/containers/runs"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
	"layered.build/builder/snapshot/gc/gctest"
)

func begin(t *testing.T, f runs.Folder, name string) *runs.Run {
	t.Helper()
	r, err := f.New(&runs.Record{Name: name, Base: snapshot.Stack{{ID: "base of " + snapshot.LayerID(name)}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFind(t *testing.T) {
	f := runs.In(t.TempDir())
	if list, err := f.List(); err != nil || len(list) != 0 {
		t.Errorf("of a store without runs: %v, %v", list, err)
	}
	a, b := begin(t, f, "a"), begin(t, f, "")
	for ref, want := range map[string]*runs.Run{
		"a": a, a.Record.ID: a, a.Record.ID[:20]: a, b.Record.Name: b, b.Record.ShortID(): b,
	} {
		if got, err := f.Find(ref); err != nil || got.Record.ID != want.Record.ID {
			t.Errorf("%q found %+v, %v", ref, got, err)
		}
	}
	var m *mistake.Error
	for _, ref := range []string{"", "none", "a\x00"} {
		if got, err := f.Find(ref); !errors.As(err, &m) {
			t.Errorf("%q found %+v, %v", ref, got, err)
		}
	}
	if _, err := f.New(&runs.Record{Name: "a"}); !errors.As(err, &m) || m.Hint == "" {
		t.Errorf("a name that is taken: %v", err)
	}
	if !strings.HasPrefix(b.Record.Name, "run-") || len(b.Record.ID) != 64 {
		t.Errorf("a run without a name is called %q, %q", b.Record.Name, b.Record.ID)
	}
}

func TestLife(t *testing.T) {
	store := t.TempDir()
	f := runs.In(store)
	r := begin(t, f, "r")
	seen, err := f.Find("r")
	if err != nil || !seen.Running() {
		t.Fatalf("a run that begins: running is %v, %v", seen.Running(), err)
	}
	now := time.Now().UTC()
	r.Record.Finished, r.Record.ExitCode, r.Record.Stack = &now, 3, snapshot.Stack{{ID: "top"}}
	if err := errors.Join(r.Save(), r.Release(), r.Release()); err != nil {
		t.Fatal(err)
	}
	if seen, err = f.Find("r"); err != nil || seen.Running() || seen.Record.ExitCode != 3 || !seen.Record.Finished.Equal(now) {
		t.Errorf("a run that has ended: %+v, %v", seen.Record, err)
	}
	stacks, err := f.Stacks()
	if err != nil || len(stacks) != 2 || stacks[0][0].ID != "base of r" || stacks[1][0].ID != "top" {
		t.Errorf("it needs %v, %v", stacks, err)
	}
	if bad, err := f.Damaged(); err != nil || len(bad) != 0 {
		t.Errorf("damaged: %v, %v", bad, err)
	}
	dir := filepath.Join(store, "runs", r.Record.ID)
	if err := os.WriteFile(filepath.Join(dir, "run.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if bad, err := f.Damaged(); err != nil || len(bad) != 1 || bad[0] != dir {
		t.Errorf("damaged: %v, %v", bad, err)
	}
	if list, err := f.List(); err != nil || len(list) != 0 {
		t.Errorf("a damaged record is listed: %v, %v", list, err)
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

func TestKeeper(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := runs.In(s.Root())
	r := begin(t, f, "r")
	defer r.Release()
	found, err := f.Keeper().Items(t.Context())
	if err != nil || len(found.Items) != 1 || len(found.Roots) != 1 || found.Roots[0].Layers[0][0].ID != "base of r" {
		t.Errorf("found %+v, %v", found, err)
	}
	gctest.Run(t, s, f.Keeper(), gc.KindRun)
	if list, err := f.List(); err != nil || len(list) != 1 {
		t.Errorf("%d runs are left, %v", len(list), err)
	}
}
