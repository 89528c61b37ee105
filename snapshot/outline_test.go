package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"

	"layered.build/builder/snapshot"
)

// lists are the entries of layers of another store.
type lists struct {
	of      map[snapshot.ChainID][]byte
	mu      sync.Mutex                // guards what follows
	foreign map[snapshot.ChainID]bool // what was asked as
}

// Entries implements snapshot.Outlines.
func (l *lists) Entries(_ context.Context, chain snapshot.ChainID, foreign bool) (io.ReadCloser, error) {
	l.mu.Lock()
	l.foreign[chain] = foreign
	l.mu.Unlock()
	if b, ok := l.of[chain]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return nil, fs.ErrNotExist
}

// TestOutline looks at layers that are elsewhere by their lists: nothing is fetched but the
// layer whose file is opened, and a list that is not that of the layer is not believed.
func TestOutline(t *testing.T) {
	maker, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer maker.Close()
	base := gz(makeTar(t, ent(tar.TypeDir, "d", ""), ent(tar.TypeReg, "d/base", "base")))
	there := addAll(t, maker, base)
	var made []*remote
	for _, name := range []string{"one", "two", "three"} {
		l, err := maker.WriteLayer(t.Context(), there, []snapshot.Change{{
			Entry: snapshot.Entry{Path: "d/" + name, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(name))},
			Open:  func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(name))), nil },
		}}, snapshot.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		there = append(there, l)
		r, err := maker.Tar(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		made = append(made, gz(b))
	}
	known := &lists{of: map[snapshot.ChainID][]byte{}, foreign: map[snapshot.ChainID]bool{}}
	for i := range there {
		var b bytes.Buffer
		if err := maker.WriteEntries(there[i], &b); err != nil {
			t.Fatal(err)
		}
		known.of[there[:i+1].ChainID()] = b.Bytes()
	}
	known.of[there.ChainID()] = known.of[there[:2].ChainID()] // another layer's

	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetOutlines(known)
	base.opened.Store(0)
	stack := addAll(t, s, base)
	for i, m := range made {
		lazy := m.lazy()
		lazy.Content = there[i+1].Content
		l, err := s.AddLazy(stack, lazy)
		if err != nil {
			t.Fatal(err)
		}
		stack = append(stack, l)
	}
	tree, err := s.Outline(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	if es, err := tree.ReadDir("d"); err != nil || len(es) != 4 {
		t.Errorf("in d are %d entries, %v", len(es), err)
	}
	if got := readFile(t, tree, "d/two"); got != "two" {
		t.Errorf("two holds %q", got)
	}
	for i, want := range []int32{0, 0, 1, 1} {
		got := base.opened.Load()
		if i > 0 {
			got = made[i-1].opened.Load()
		}
		if got != want {
			t.Errorf("layer %d was fetched %d times, want %d", i, got, want)
		}
		if chain := stack[:i+1].ChainID(); known.foreign[chain] != (i == 0) {
			t.Errorf("layer %d: asked as foreign: %v", i, known.foreign[chain])
		}
	}
}
