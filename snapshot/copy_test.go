package snapshot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

func openCopyStore(t testing.TB) *snapshot.Store {
	t.Helper()
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{Driver: snapshot.DriverCopy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// scene changes a file system the same way whenever it is given the same numbers.
// It makes no hard links and renames no directories: overlay splits the ones and
// refuses the others.
func scene(t *testing.T, root string, r *rand.Rand) {
	t.Helper()
	name := func() string { return snapshottest.Name(root, r.IntN) }
	for range 80 {
		p := name()
		os.MkdirAll(filepath.Dir(p), 0o755)
		switch r.IntN(9) {
		case 0, 1:
			os.RemoveAll(p)
		case 2:
			os.Mkdir(p, 0o750)
		case 3:
			os.Symlink("target", p)
		case 4:
			os.Chmod(p, os.FileMode(0o600+r.IntN(0o100)))
		case 5:
			unix.Setxattr(p, "user.x", []byte(fmt.Sprint(r.IntN(3))), 0)
		case 6:
			os.Lchown(p, r.IntN(3), r.IntN(3))
		case 7:
			if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() {
				os.Rename(p, name())
			}
		default:
			os.WriteFile(p, []byte(fmt.Sprint(r.IntN(1<<30))), 0o640)
		}
	}
}

// The same changes give the same layers whether they were made on an overlay or in
// a copy, and whether the copy is the one of the step before or a new one.
func TestCopyMakesTheSameLayers(t *testing.T) {
	needRoot(t)
	epoch := time.Unix(1e9, 0)
	for seed := range uint64(6) {
		overlay, kept, fresh := openStore(t), openCopyStore(t), openCopyStore(t)
		var stacks [3]snapshot.Stack
		for step := range uint64(5) {
			var ids [3]snapshot.DiffID
			for i, s := range []*snapshot.Store{overlay, kept, fresh} {
				a, err := s.Prepare(t.Context(), stacks[i])
				if err != nil {
					t.Fatal(err)
				}
				snapshottest.InMount(t, a.Mount(), func(root string) { scene(t, root, rand.New(rand.NewPCG(seed, step))) })
				l, err := a.Commit(t.Context(), snapshot.CommitOptions{Epoch: &epoch})
				if err != nil {
					t.Fatal(err)
				}
				if i == 2 {
					fresh.DropKept(t)
				}
				ids[i] = l.DiffID
				stacks[i] = append(stacks[i], l)
			}
			if ids[0] != ids[1] || ids[1] != ids[2] {
				t.Fatalf("seed %d, step %d: overlay %s, kept copy %s, fresh copy %s", seed, step, ids[0], ids[1], ids[2])
			}
		}
	}
}

// A step on the result of the one before runs in the same directory, also when a
// COPY lies between them; another one on the same layers does not.
func TestCopyContinues(t *testing.T) {
	s := openCopyStore(t)
	base, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{file("base", "base"), dir("d"), file("d/x", "x"), file("d/y", "y")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stack := snapshot.Stack{base}
	step := func(on snapshot.Stack, change func(root string)) (snapshot.Layer, uint64) {
		t.Helper()
		a, err := s.Prepare(t.Context(), on)
		if err != nil {
			t.Fatal(err)
		}
		root, _ := a.Mount().Dir()
		var st unix.Stat_t
		if err := unix.Lstat(root+"/base", &st); err != nil {
			t.Fatal(err)
		}
		change(root)
		l, err := a.Commit(t.Context(), snapshot.CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return l, st.Ino
	}
	one, first := step(stack, func(root string) { os.WriteFile(root+"/one", []byte("1"), 0o644) })
	stack = append(stack, one)
	copied, err := s.WriteLayer(t.Context(), stack, []snapshot.Change{
		{Entry: snapshot.Entry{Path: "one", Type: snapshot.TypeWhiteout}},
		{Entry: snapshot.Entry{Path: "d", Type: snapshot.TypeDir, Mode: 0o700, Opaque: true}},
		file("d/y", "other"), dir("e"), file("e/new", "new"),
	}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stack = append(stack, copied)
	_, second := step(stack, func(root string) {
		got := ""
		filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			b, _ := os.ReadFile(p)
			got += strings.TrimPrefix(p, root) + "=" + string(b) + " "
			return err
		})
		if got != "= /base=base /d= /d/y=other /e= /e/new=new " {
			t.Errorf("after the COPY: %s", got)
		}
	})
	if first != second {
		t.Error("everything was copied again")
	}
	if _, third := step(snapshot.Stack{base}, func(string) {}); third == first {
		t.Error("a step on the base runs in the directory of its results")
	}
}

// A name that a step linked to a file of the base is a file of its own in the next.
func TestCopySplitsLinks(t *testing.T) {
	s := openCopyStore(t)
	base, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{file("low", "low")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stack := snapshot.Stack{base}
	for i, change := range []func(string) error{
		func(root string) error { return os.Link(root+"/low", root+"/new") },
		func(root string) error { return os.WriteFile(root+"/new", []byte("changed"), 0o644) },
	} {
		a, err := s.Prepare(t.Context(), stack)
		if err != nil {
			t.Fatal(err)
		}
		root, _ := a.Mount().Dir()
		if err := change(root); err != nil {
			t.Fatal(err)
		}
		l, err := a.Commit(t.Context(), snapshot.CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Manifest(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for e, err := m.Next(); err == nil; e, err = m.Next() {
			paths = append(paths, e.Path+e.Hardlink)
		}
		m.Close()
		if len(paths) != 1 || paths[0] != "new" {
			t.Errorf("step %d: %v", i, paths)
		}
		stack = append(stack, l)
	}
}

// A change within the same tick as the copy, of equal size, is seen.
func TestCopySeesQuickChanges(t *testing.T) {
	s := openCopyStore(t)
	stamp := time.Unix(1e9, 0)
	changes := []snapshot.Change{}
	for i := range 50 {
		changes = append(changes, file(fmt.Sprint("f", i), "a"))
	}
	base, err := s.WriteLayer(t.Context(), nil, changes, snapshot.WriteOptions{Epoch: &stamp})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Prepare(t.Context(), snapshot.Stack{base})
	if err != nil {
		t.Fatal(err)
	}
	root, _ := a.Mount().Dir()
	for i := range 50 {
		p := filepath.Join(root, fmt.Sprint("f", i))
		var st unix.Stat_t
		if err := errors.Join(unix.Stat(p, &st), os.WriteFile(p, []byte("b"), 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
			t.Fatal(err)
		}
	}
	l, err := a.Commit(t.Context(), snapshot.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Manifest(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	n := 0
	for _, err := m.Next(); err == nil; _, err = m.Next() {
		n++
	}
	if n != 50 {
		t.Errorf("%d of 50 changes were seen", n)
	}
}
