package engine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/snapshot/portable"
)

func openAt(t *testing.T, root string) *Engine {
	t.Helper()
	h, err := NewHost(Options{Root: root, Rung: Rung{Isolation: rootless.Current()}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Open(t.Context(), Access{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// What an archive may put into a store. What is in a refused folder is refused by the reader.
func TestPlace(t *testing.T) {
	e := openAt(t, filepath.Join(t.TempDir(), "store"))
	id := strings.Repeat("0f", 32)
	for name, want := range map[string]string{
		"images": "plain", "images/names.json": "plain", "cache/ab/abcd.json": "plain", "runs/" + id + "/run.json": "plain",
		"layers/" + id: "plain", "layers/" + id + "/dir": "plain", "layers/" + id + "/dir/etc": "any",
		"blobs/sha256/" + id: "plain", "mounts/" + id: "plain", "mounts/" + id + ".1": "plain", "mounts/" + id + ".lock": "plain",
		"mounts/" + id + "/x": "any",
		"images/lock":         "", "images/tmp": "", "cache/salt": "", "cache/locks": "", "runs/" + id + "/lock": "",
		"version": "", "owners": "", "tmp": "", "locks/x": "", "active": "", "room.json": "", "use.lock": "", "other": "",
		"layers/new": "", "layers/-x/dir": "", "blobs/other": "", "blobs/sha256/x": "", "mounts/new-1": "", "blobs/sha256/" + id + "/x": "",
	} {
		got := ""
		if p := e.place(name); p.Maker != nil {
			got = "plain"
			if p.Any {
				got = "any"
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A blob that is not what its name says is refused, and nothing is in the store.
func TestImportRefusesBlobs(t *testing.T) {
	from := t.TempDir()
	blob := filepath.Join(from, "blobs", "sha256", strings.Repeat("0f", 32))
	if err := errors.Join(os.MkdirAll(filepath.Dir(blob), 0o755), os.WriteFile(blob, []byte("other"), 0o600)); err != nil {
		t.Fatal(err)
	}
	e := openAt(t, filepath.Join(t.TempDir(), "store"))
	var b bytes.Buffer
	w, err := portable.NewWriter(&b, from)
	if err == nil {
		err = errors.Join(w.Add(t.Context(), e.Store.Maker(), "blobs", nil), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Import(t.Context(), &b); !errors.Is(err, portable.ErrFormat) {
		t.Errorf("it was imported: %v", err)
	}
	if all, err := e.Store.Blobs().All(); err != nil || len(all) > 0 {
		t.Errorf("the store has %v, %v", all, err)
	}
	if left, err := os.ReadDir(filepath.Join(e.Root(), "tmp")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
