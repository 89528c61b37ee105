package local

import (
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// TestReclaimSecrets proves that what dead processes left of secrets goes at once,
// however young, and what a living one holds stays.
func TestReclaimSecrets(t *testing.T) {
	parent, err := memoryDir()
	if err != nil {
		t.Skip(err)
	}
	held, err := files.NewScratch(parent, secretPrefix())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Remove()
	left, err := os.MkdirTemp(parent, secretPrefix())
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(left)
	if err := os.WriteFile(filepath.Join(left, "x"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	Reclaim(store)
	if _, err := os.Lstat(left); !os.IsNotExist(err) {
		t.Errorf("the secret of a dead process is still there: %v", err)
	}
	if _, err := os.Lstat(held.Dir()); err != nil {
		t.Errorf("the secret of a living process is gone: %v", err)
	}
}
