package cachemount_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/cachemount"
	"layered.build/builder/snapshot/files"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestImport(t *testing.T) {
	root := t.TempDir()
	fill := func(dir string) (bool, error) {
		return true, errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	}
	for _, variant := range []string{"../../../../tmp/x", "..", strings.Repeat("/", 32), strings.Repeat("A", 32)} {
		if ok, err := cachemount.Import(root, "m", variant, fill); ok || !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v, %v", variant, ok, err)
		}
	}
	for _, variant := range []string{"", strings.Repeat("a", 32)} {
		if ok, err := cachemount.Import(root, "m", variant, fill); !ok || err != nil {
			t.Errorf("%q: %v, %v", variant, ok, err)
		}
		if ok, err := cachemount.Import(root, "m", variant, fill); ok || err != nil {
			t.Errorf("%q again: %v, %v", variant, ok, err)
		}
	}
	all, err := cachemount.List(root)
	if err != nil || len(all) != 2 || all[0].ID != "m" || all[1].ID != "m" {
		t.Fatalf("%+v, %v", all, err)
	}
	lock, err := all[0].Hold()
	must(t, err)
	defer lock.Release()
	if again, err := all[0].Hold(); err != nil {
		t.Errorf("several may hold it: %v", err)
	} else {
		must(t, again.Release())
	}
	if _, err := files.TryLockFile(all[0].Lock(), files.Exclusive); !errors.Is(err, files.ErrLocked) {
		t.Errorf("it is not held: %v", err)
	}
	if ok, err := all[0].Remove(); ok || err != nil {
		t.Errorf("what is held was removed: %v, %v", ok, err)
	}
	must(t, lock.Release())
	for _, m := range all {
		if ok, err := m.Remove(); !ok || err != nil {
			t.Errorf("remove: %v, %v", ok, err)
		}
	}
	if all, err = cachemount.List(root); err != nil || len(all) != 0 {
		t.Errorf("left %+v, %v", all, err)
	}
}
