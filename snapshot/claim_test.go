package snapshot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/folder"
)

// TestOpenRefusesOthersFolders proves that a folder that holds something else is not
// touched, whoever opens it.
func TestOpenRefusesOthersFolders(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "tmp", "mine")
	if err := os.MkdirAll(filepath.Dir(mine), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Open(dir, snapshot.Options{}); !errors.Is(err, folder.ErrNotStore) {
		t.Errorf("Open: %v", err)
	}
	if _, _, err := snapshot.ChooseDriver(dir); !errors.Is(err, folder.ErrNotStore) {
		t.Errorf("ChooseDriver: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the folder holds %v, %v now", names, err)
	}
	if b, err := os.ReadFile(mine); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v now", b, err)
	}
}

// TestOpenAfterKilledStart proves that a folder that a killed first start left, or a new
// file system, becomes a store.
func TestOpenAfterKilledStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "version.new-123"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, isNew := range []bool{true, false} {
		s, err := snapshot.Open(dir, snapshot.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if s.IsNew() != isNew {
			t.Errorf("start %d: IsNew is %v", i, s.IsNew())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
