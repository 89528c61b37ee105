package snapshottest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

func testHardlinks(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/z", "data")
		must(t, os.Link(r+"/z", r+"/a"))
		write(t, r+"/low", "low")
	})
	wantNames(t, s, base, "a low z=a")
	top := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Link(r+"/low", r+"/new"))
	})
	wantNames(t, s, top, "new")
	Compare(t, s, on(nil, base, top))
	special := build(t, s, on(nil, base, top), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Mkdir(r+"/d", 0o755), os.Symlink("nowhere", r+"/d/s"), os.Link(r+"/d/s", r+"/s"), os.Link(r+"/d/s", r+"/d/t"))
		must(t, unix.Mkfifo(r+"/p", 0o600), os.Link(r+"/p", r+"/d/p"))
	})
	wantNames(t, s, special, "d d/p d/s d/t=d/s p=d/p s=d/s")
	Compare(t, s, on(nil, base, top, special))
}

// testLinksBelow proves that hard links which a layer adds to objects of the layers below
// are no entries, as with BuildKit, and still are one object with them for who asks, and in
// what is mounted on the layer; what else the overlay has copied up goes.
func testLinksBelow(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/t/a", "a")
		write(t, r+"/t/s/other", "other")
		write(t, r+"/deep/x/y", "y")
		write(t, r+"/twice", "twice")
		must(t, os.Link(r+"/twice", r+"/again"))
		must(t, os.Chmod(r+"/deep/x", 0o700))
	})
	next := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Link(r+"/t/a", r+"/t/s/a"), os.Link(r+"/deep/x/y", r+"/y"))
		// Only copied up, not linked:
		must(t, os.Chmod(r+"/twice", 0o600), os.Chmod(r+"/twice", 0o644))
	})
	wantNames(t, s, next, "t t/s t/s/a y")
	last := build(t, s, on(nil, base, next), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Link(r+"/t/s/a", r+"/t/s/b"))
	})
	wantNames(t, s, last, "t t/s t/s/b")
	stack := on(nil, base, next, last)
	Compare(t, s, stack)
	tree, err := s.Tree(t.Context(), stack)
	must(t, err)
	group := tree.(snapshot.SameFiler).SameFile
	for _, pair := range [][2]string{{"t/s/a", "t/s/b"}, {"deep/x/y", "y"}, {"twice", "again"}} {
		if a, b := group(pair[0]), group(pair[1]); a != b || a == "" {
			t.Errorf("%v: %q and %q", pair, a, b)
		}
	}
	if group("t/s/other") == group("t/s/a") || group("y") == group("t/s/a") || group("nowhere") != "" {
		t.Error("other files are one file, too")
	}
	view, err := s.View(t.Context(), stack)
	must(t, err)
	_, plain := view.Dir()
	// The next process sees them as one object where stacks are mounted, until one is changed.
	changed := build(t, s, stack, snapshot.CommitOptions{}, func(r string) {
		for _, pair := range [][2]string{{"/t/s/a", "/t/s/b"}, {"/deep/x/y", "/y"}} {
			a, errA := os.Stat(r + pair[0])
			b, errB := os.Stat(r + pair[1])
			must(t, errA, errB)
			if !plain && !os.SameFile(a, b) {
				t.Errorf("%v are two files", pair)
			}
		}
		must(t, os.Remove(r+"/t/s/a"))
		write(t, r+"/t/s/a", "a")
	})
	tree, err = s.Tree(t.Context(), on(stack, changed))
	must(t, err)
	group = tree.(snapshot.SameFiler).SameFile
	if group("t/s/a") == group("t/s/b") {
		t.Error("a new file is still the old one")
	}
	Compare(t, s, on(stack, changed))
}
