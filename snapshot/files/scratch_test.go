package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestScratch(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "run")
	must(t, os.MkdirAll(filepath.Join(parent, "mine-dead", "deep"), 0o700))
	must(t, os.MkdirAll(filepath.Join(parent, "other-dead"), 0o700))
	must(t, os.WriteFile(filepath.Join(parent, "mine-file"), nil, 0o600))
	s, err := NewScratch(parent, "mine-")
	must(t, err)
	must(t, os.WriteFile(s.Path("file"), nil, 0o600))
	if _, err := os.Lstat(filepath.Join(parent, "mine-dead")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a dead process left is still there: %v", err)
	}
	must(t, Sweep(parent, "mine-"))
	for _, p := range []string{s.Path("file"), filepath.Join(parent, "other-dead"), filepath.Join(parent, "mine-file")} {
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("%v", err)
		}
	}
	must(t, s.Remove())
	if _, err := os.Lstat(s.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	must(t, Sweep(filepath.Join(parent, "none"), ""))
}

// Whoever gets a folder has it to itself, whatever sweeps at the same time.
func TestScratchWhileSwept(t *testing.T) {
	parent := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 30 {
				s, err := NewScratch(parent, "x-")
				if err != nil {
					t.Error(err)
					return
				}
				if err := Sweep(parent, "x-"); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(s.Path("file"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := s.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%d folders are left, %v", len(left), err)
	}
}
