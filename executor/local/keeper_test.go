package local

import (
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/gc"
	"layered.build/builder/snapshot/gc/gctest"
)

func TestKeeper(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := func(elem ...string) string { return filepath.Join(append([]string{s.Root()}, elem...)...) }
	if found, err := Keeper(s).Items(t.Context()); err != nil || len(found.Items) != 0 {
		t.Errorf("a new store has %v, %v", found.Items, err)
	}
	for _, name := range []string{"mounts/one/file", "mounts/two/file", "mounts/new-3/files/file", "mounts/one.lock", "mounts/two.lock", "logs/a.log", "run/mount-1/file"} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// One that a process has mounted is in use, and stays.
	lock, err := files.TryLockFile(at("mounts/one.lock"), files.Shared)
	if err != nil {
		t.Fatal(err)
	}
	found, err := Keeper(s).Items(t.Context())
	if err != nil || len(found.Items) != 3 {
		t.Fatalf("items: %v, %v", found.Items, err)
	}
	for _, it := range found.Items {
		if want := it.Path == "mounts/one"; it.InUse != want {
			t.Errorf("%s is in use: %v", it.Path, it.InUse)
		}
	}
	if err := s.Collect(t.Context(), func(c *snapshot.Collection) error {
		ok, err := Keeper(s).Remove(c, gc.Item{Kind: gc.KindMount, Path: "mounts/one"})
		if ok {
			t.Error("what is mounted was removed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(at("mounts/one/file")); err != nil {
		t.Error(err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	gctest.Run(t, s, Keeper(s), gc.KindMount, gc.KindLog)
}
