package snapshot_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"layered.build/builder/snapshot"
)

// TestSquash compares the tree of several layers with that of one.
func TestSquash(t *testing.T) {
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir := func(p string) snapshot.Change {
		return snapshot.Change{Entry: snapshot.Entry{Path: p, Type: snapshot.TypeDir, Mode: 0o755}}
	}
	opaque := func(p string) snapshot.Change {
		c := dir(p)
		c.Entry.Opaque = true
		return c
	}
	file := func(p, text string) snapshot.Change {
		return snapshot.Change{
			Entry: snapshot.Entry{Path: p, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(text))},
			Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
		}
	}
	link := func(p, to string) snapshot.Change {
		return snapshot.Change{Entry: snapshot.Entry{Path: p, Type: snapshot.TypeFile, Mode: 0o644, Hardlink: to, Size: 1}}
	}
	symlink := func(p, to string) snapshot.Change {
		return snapshot.Change{Entry: snapshot.Entry{Path: p, Type: snapshot.TypeSymlink, Linkname: to}}
	}
	gone := func(p string) snapshot.Change {
		return snapshot.Change{Entry: snapshot.Entry{Path: p, Type: snapshot.TypeWhiteout}}
	}
	stack := func(below snapshot.Stack, layers ...[]snapshot.Change) snapshot.Stack {
		t.Helper()
		for _, changes := range layers {
			l, err := s.WriteLayer(t.Context(), below, changes, snapshot.WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			below = append(below[:len(below):len(below)], l)
		}
		return below
	}
	base := stack(nil, []snapshot.Change{
		dir("d"), file("d/old", "1"), dir("d/sub"), file("d/sub/x", "1"), file("f", "1"), dir("e"), file("e/keep", "1"), dir("o"), file("o/hidden", "1"), file("r", "1"), dir("r2"), file("r2/x", "1"),
	})
	all := stack(base,
		[]snapshot.Change{file("new", "1"), file("a1", "1"), link("a2", "a1"), dir("e"), file("e/more", "1"), file("tmp", "1"), gone("f"), opaque("o"), file("o/seen", "1"), file("o/hidden", "2"), gone("r2")},
		[]snapshot.Change{gone("d"), gone("tmp"), file("new", "2"), gone("a1"), dir("o"), gone("o/hidden"), file("o/second", "1"), gone("r"), file("r2", "now a file")},
		[]snapshot.Change{dir("d"), file("d/fresh", "1"), symlink("f", "new"), gone("never"), dir("r"), file("r/x", "1")},
		[]snapshot.Change{gone("r2")},
		[]snapshot.Change{dir("r2"), file("r2/y", "1")},
	)
	l, err := s.Squash(t.Context(), base, all[len(base):], nil)
	if err != nil {
		t.Fatal(err)
	}
	got := listing(t, s, append(base[:len(base):len(base)], l))
	if want := listing(t, s, all); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(got, "a2 f") || strings.Contains(got, "old") || strings.Contains(got, "hidden") {
		t.Errorf("the comparison compares nothing:\n%s", got)
	}
	m, err := s.Manifest(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, absent := range []string{"tmp", "never", "a1", "e/keep"} {
		if _, err := m.Find(absent); err == nil {
			t.Errorf("%s is in the layer", absent)
		}
	}
}

func listing(t *testing.T, s *snapshot.Store, stack snapshot.Stack) string {
	t.Helper()
	tree, err := s.Tree(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var walk func(string)
	walk = func(p string) {
		entries, err := tree.ReadDir(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			fmt.Fprintf(&b, "%s %c %o %s %s", e.Path, e.Type, e.Mode, e.Digest, e.Linkname)
			if e.Type == snapshot.TypeFile {
				f, err := tree.Open(e.Path)
				if err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(f)
				f.Close()
				fmt.Fprintf(&b, " %q %v", data, err)
			}
			b.WriteString("\n")
			if e.Type == snapshot.TypeDir {
				walk(e.Path)
			}
		}
	}
	walk(".")
	return b.String()
}
