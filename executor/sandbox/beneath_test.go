package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestBeneath(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"abs": out, "up": "../..", "inner": "a", "a/link": out} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	fd := int(root.Fd())
	for path, ok := range map[string]bool{
		"a/b": true, "/a//b/.": true, "": true, "abs": false, "abs/x": false, "up": false, "inner/b": false, "a/link/x": false,
		"a/../a": false, "nothing": false,
	} {
		f, err := Beneath(fd, path)
		if (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
		if err == nil {
			f.Close()
		}
	}
	if _, err := Beneath(fd, "nothing/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing path: %v", err)
	}
	for path, isDir := range map[string]bool{"new/deep/dir": true, "a/b/file": false, "a/b": true, "two/file": false} {
		f, err := MakeBeneath(fd, path, isDir, 0o711, nil)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		f.Close()
		if fi, err := os.Lstat(filepath.Join(dir, path)); err != nil || fi.IsDir() != isDir {
			t.Errorf("%q: %v, %v", path, fi, err)
		}
	}
	for _, path := range []string{"abs/escaped", "up/escaped", "inner/escaped", "a/link/escaped/x"} {
		if f, err := MakeBeneath(fd, path, true, 0o755, func(int, string) error { return nil }); err == nil {
			f.Close()
			t.Errorf("%q is made", path)
		}
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("made outside: %v, %v", left, err)
	}
}
