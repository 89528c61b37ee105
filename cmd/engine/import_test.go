package engine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/snapshot/files"
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
	write(t, filepath.Join(from, "blobs", "sha256", strings.Repeat("0f", 32)), "other")
	e := openAt(t, filepath.Join(t.TempDir(), "store"))
	if err := e.Import(t.Context(), archive(t, e, from, "blobs")); !errors.Is(err, portable.ErrFormat) {
		t.Errorf("it was imported: %v", err)
	}
	if all, err := e.Store.Blobs().All(); err != nil || len(all) > 0 {
		t.Errorf("the store has %v, %v", all, err)
	}
	if left, err := os.ReadDir(filepath.Join(e.Root(), "tmp")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// archive is what a Writer makes of folders.
func archive(t *testing.T, e *Engine, from string, folders ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w, err := portable.NewWriter(&b, from)
	for _, name := range folders {
		if err == nil {
			err = w.Add(t.Context(), e.Store.Maker(), name, nil)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &b
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// Of an archive that has a layer that is not whole no layer stays.
func TestImportRefusesLayers(t *testing.T) {
	from := t.TempDir()
	for _, id := range []string{"0a", "0f"} {
		write(t, filepath.Join(from, "layers", strings.Repeat(id, 32), "layer.json"), "{}")
	}
	e := openAt(t, filepath.Join(t.TempDir(), "store"))
	if err := e.Import(t.Context(), archive(t, e, from, "layers")); err == nil || !strings.Contains(err.Error(), "layer 0a0a") {
		t.Errorf("got %v", err)
	}
	if ids, err := e.Store.IDs(); err != nil || len(ids) > 0 {
		t.Errorf("the store has %v, %v", ids, err)
	}
}

// A cache mount that somebody has is not replaced, nor is its lock, which would be two then.
func TestImportKeepsMounts(t *testing.T) {
	from := t.TempDir()
	held, free := strings.Repeat("0a", 16), strings.Repeat("0f", 16)
	for _, id := range []string{held, free} {
		write(t, filepath.Join(from, "mounts", id, "file"), "imported")
		write(t, filepath.Join(from, "mounts", id+".lock"), `{"id":"m"}`)
	}
	e := openAt(t, filepath.Join(t.TempDir(), "store"))
	if err := os.MkdirAll(e.path("mounts", held), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := files.TryLockFile(e.path("mounts", held+".lock"), files.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	var told []string
	e.host.opts.Warn = func(text string) { told = append(told, text) }
	if err := e.Import(t.Context(), archive(t, e, from, "mounts")); err != nil {
		t.Fatal(err)
	}
	if !files.IsLocked(e.path("mounts", held+".lock"), files.Exclusive) {
		t.Error("the lock was replaced")
	}
	if names, err := os.ReadDir(e.path("mounts", held)); err != nil || len(names) > 0 {
		t.Errorf("the mount in use has %v, %v", names, err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "in use") {
		t.Errorf("told %q", told)
	}
	if b, err := os.ReadFile(e.path("mounts", free, "file")); string(b) != "imported" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := os.ReadFile(e.path("mounts", free+".lock")); string(b) != `{"id":"m"}` {
		t.Errorf("%q, %v", b, err)
	}
}
