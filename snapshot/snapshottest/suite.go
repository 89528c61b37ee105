package snapshottest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/owner"
)

// Opener opens a new, empty store that is closed when the test ends.
type Opener func(t testing.TB) *snapshot.Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	NeedMount(t)
	for _, c := range []struct {
		name string
		fn   func(*testing.T, Opener)
	}{
		{"Files", testFiles},
		{"Whiteouts", testWhiteouts},
		{"OpaqueDirectory", testOpaque},
		{"UnchangedIsLeftOut", testUnchanged},
		{"Hardlinks", testHardlinks},
		{"LinksBelow", testLinksBelow},
		{"Metadata", testMetadata},
		{"ManyLayers", testManyLayers},
		{"RoundTrip", testRoundTrip},
		{"Epoch", testEpoch},
		{"Stubs", testStubs},
		{"Rename", testRename},
		{"Remade", testRemade},
		{"WholeSeconds", testWholeSeconds},
		{"Empty", testEmpty},
		{"RootMetadata", testRootMetadata},
		{"Tap", testTap},
		{"Inspect", testInspect},
	} {
		t.Run(c.name, func(t *testing.T) { c.fn(t, open) })
	}
}

// build commits what fn does in a snapshot on parent.
func build(t testing.TB, s *snapshot.Store, parent snapshot.Stack, opts snapshot.CommitOptions, fn func(root string)) snapshot.Layer {
	t.Helper()
	a, err := s.Prepare(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	InMount(t, a.Mount(), fn)
	l, err := a.Commit(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func on(parent snapshot.Stack, l ...snapshot.Layer) snapshot.Stack {
	return append(append(snapshot.Stack(nil), parent...), l...)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, data string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644))
}

// names lists a layer's manifest, whiteouts with a leading "-".
func names(t testing.TB, s *snapshot.Store, l snapshot.Layer) string {
	t.Helper()
	m, err := s.Manifest(t.Context(), l)
	must(t, err)
	defer m.Close()
	var out []string
	for {
		e, err := m.Next()
		if err == io.EOF {
			return strings.Join(out, " ")
		}
		must(t, err)
		n := e.Path
		if e.Type == snapshot.TypeWhiteout {
			n = "-" + n
		}
		if e.Hardlink != "" {
			n += "=" + e.Hardlink
		}
		out = append(out, n)
	}
}

func wantNames(t testing.TB, s *snapshot.Store, l snapshot.Layer, want string) {
	t.Helper()
	if got := names(t, s, l); got != want {
		t.Errorf("layer has %q, want %q", got, want)
	}
}

func testFiles(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/etc/a", "a")
		write(t, r+"/etc/b", "b")
		must(t, os.Symlink("a", r+"/etc/l"))
	})
	wantNames(t, s, base, "etc etc/a etc/b etc/l")
	top := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/etc/a", "new")
		write(t, r+"/opt/x/y", "y")
	})
	wantNames(t, s, top, "etc etc/a opt opt/x opt/x/y")
	Compare(t, s, on(nil, base, top))
}

func testWhiteouts(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/d/a", "a")
		write(t, r+"/d/sub/x", "x")
		write(t, r+"/d/keep", "k")
		write(t, r+"/file", "f")
	})
	top := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Remove(r+"/d/a"), os.RemoveAll(r+"/d/sub"), os.Remove(r+"/file"), os.Mkdir(r+"/file", 0o700))
		write(t, r+"/d/tmp", "made and removed")
		must(t, os.Remove(r+"/d/tmp"))
	})
	// A directory over a file needs no whiteout: it hides the file.
	wantNames(t, s, top, "d -d/a -d/sub file")
	Compare(t, s, on(nil, base, top))
}

func testOpaque(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/d/a", "a")
		write(t, r+"/d/b/deep/x", "x")
		write(t, r+"/d/c", "c")
	})
	middle := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/d/m", "m")
		must(t, os.Remove(r+"/d/c"))
	})
	top := build(t, s, on(nil, base, middle), snapshot.CommitOptions{}, func(r string) {
		must(t, os.RemoveAll(r+"/d"))
		write(t, r+"/d/a", "changed")
		write(t, r+"/d/b/new", "n")
	})
	wantNames(t, s, top, "d d/a d/b -d/b/deep d/b/new -d/m")
	Compare(t, s, on(nil, base, middle, top))
}

func testMetadata(t *testing.T, open Opener) {
	s := open(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	l := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/suid", "x")
		must(t, owner.Lchown(r+"/suid", 7, 8), unix.Chmod(r+"/suid", 0o6755), unix.Setxattr(r+"/suid", "security.capability", []byte(capability), 0))
		must(t, unix.Setxattr(r+"/suid", "user.note", []byte("n"), 0))
		must(t, os.Mkdir(r+"/sticky", 0o755), unix.Chmod(r+"/sticky", 0o1777))
		must(t, unix.Mkfifo(r+"/fifo", 0o600))
		if err := unix.Mknod(r+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); !errors.Is(err, unix.EPERM) {
			must(t, err, unix.Mknod(r+"/block", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 9))))
		} // else in a user namespace, where nobody makes devices
		must(t, os.Symlink(strings.Repeat("long/", 60), r+"/link"), owner.Lchown(r+"/link", 9, 9))
		write(t, r+"/"+strings.Repeat("n", 200)+"/"+strings.Repeat("m", 200), "long name")
		write(t, r+"/grüße", "ü")
	})
	Compare(t, s, on(nil, l))
	tree, err := s.Tree(t.Context(), on(nil, l))
	must(t, err)
	e, err := tree.Lstat("suid")
	must(t, err)
	if e.Mode != 0o6755 || e.UID != 7 || e.GID != 8 || e.Xattrs["security.capability"] != capability || e.Xattrs["user.note"] != "n" {
		t.Errorf("suid: %+v", e)
	}
}

func testManyLayers(t *testing.T, open Opener) {
	s := open(t)
	var stack snapshot.Stack
	for i := range 200 {
		p := fmt.Sprintf("f%03d", i)
		l, err := s.WriteLayer(t.Context(), stack, []snapshot.Change{
			{Entry: snapshot.Entry{Path: p, Type: snapshot.TypeFile, Mode: 0o644}},
			{Entry: snapshot.Entry{Path: "last", Type: snapshot.TypeSymlink, Linkname: p}},
		}, snapshot.WriteOptions{})
		must(t, err)
		stack = append(stack, l)
	}
	top := build(t, s, stack, snapshot.CommitOptions{}, func(r string) { must(t, os.Remove(r+"/f007")) })
	wantNames(t, s, top, "-f007")
	Compare(t, s, on(stack, top))
}

// testRoundTrip makes a layer of random changes, and the same layer once more from
// its tar in another store: the file systems are equal, and so are the tars.
func testRoundTrip(t *testing.T, open Opener) {
	s, other, rnd := open(t), open(t), chance(t)
	var stack, copied snapshot.Stack
	for range 6 {
		l := build(t, s, stack, snapshot.CommitOptions{}, func(r string) { scramble(t, r, rnd) })
		tar, err := s.Tar(t.Context(), l)
		must(t, err)
		c, err := other.Import(t.Context(), copied, l.DiffID, tar)
		must(t, err, tar.Close())
		stack, copied = append(stack, l), append(copied, c)
		again, err := other.Tar(t.Context(), c)
		must(t, err)
		_, err = io.Copy(io.Discard, again) // verifies itself
		must(t, err, again.Close())
	}
	want, got := list(t, s, stack), list(t, other, copied)
	if want != got {
		t.Errorf("applied differs from committed:\n%s", firstDifference(want, got))
	}
	Compare(t, s, stack)
	Compare(t, other, copied)
}

func testEpoch(t *testing.T, open Opener) {
	epoch := time.Unix(1e9, 0)
	make := func() (snapshot.Layer, snapshot.Layer) {
		s := open(t)
		base := build(t, s, nil, snapshot.CommitOptions{Epoch: &epoch}, func(r string) {
			write(t, r+"/d/a", "a")
			must(t, os.Chtimes(r+"/d/a", epoch, epoch.Add(-time.Hour)))
		})
		top := build(t, s, on(nil, base), snapshot.CommitOptions{Epoch: &epoch}, func(r string) { write(t, r+"/d/b", "b") })
		Compare(t, s, on(nil, base, top))
		return base, top
	}
	a1, b1 := make()
	a2, b2 := make()
	if a1.DiffID != a2.DiffID || b1.DiffID != b2.DiffID {
		t.Error("the same files give different layers")
	}
}

func testStubs(t *testing.T, open Opener) {
	s := open(t)
	outside := t.TempDir()
	write(t, outside+"/victim", "")
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) { write(t, r+"/etc/passwd", "root") })
	top := build(t, s, on(nil, base), snapshot.CommitOptions{RemovePaths: []string{"etc/resolv.conf", "run/secrets", "run/secrets/a", "full", "run", "evil/victim"}}, func(r string) {
		write(t, r+"/etc/resolv.conf", "")
		write(t, r+"/run/secrets/a", "")
		write(t, r+"/full", "not empty")
		must(t, os.Symlink(outside, r+"/evil"))
	})
	wantNames(t, s, top, "evil full")
	if _, err := os.Stat(outside + "/victim"); err != nil {
		t.Error("a symlink led the removal out of the layer")
	}
}

func testRename(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) { write(t, r+"/a/f", "f"); write(t, r+"/b/g", "g") })
	want := "b -b/g b/h"
	top := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Rename(r+"/b/g", r+"/b/h"))
		// Overlay refuses to rename a directory of a lower layer; programs copy.
		switch err := os.Rename(r+"/a", r+"/c"); {
		case err == nil:
			want = "-a b -b/g b/h c c/f"
		case !errors.Is(err, unix.EXDEV):
			t.Errorf("rename of a lower directory: %v", err)
		}
	})
	wantNames(t, s, top, want)
	Compare(t, s, on(nil, base, top))
}

func testEmpty(t *testing.T, open Opener) {
	s := open(t)
	none := build(t, s, nil, snapshot.CommitOptions{}, func(string) {})
	if !none.Empty || none.Size != 1024 {
		t.Errorf("%+v", none)
	}
	Compare(t, s, on(nil, none))
	Compare(t, s, nil)
	a, err := s.Prepare(t.Context(), nil)
	must(t, err)
	must(t, a.Discard(), a.Discard())
	if _, err := a.Commit(t.Context(), snapshot.CommitOptions{}); err == nil {
		t.Error("a discarded snapshot was committed")
	}
}

func testRootMetadata(t *testing.T, open Opener) {
	s := open(t)
	tar := rootTar(t)
	base, err := s.Import(t.Context(), nil, "", bytes.NewReader(tar))
	must(t, err)
	l, err := s.WriteLayer(t.Context(), on(nil, base), []snapshot.Change{{Entry: snapshot.Entry{Path: "f", Type: snapshot.TypeFile}}}, snapshot.WriteOptions{})
	must(t, err)
	m, err := s.View(t.Context(), on(nil, base, l))
	must(t, err)
	check := func(r string) {
		var st unix.Stat_t
		must(t, unix.Stat(r, &st))
		recorded(t, r, &st)
		if st.Mode&0o7777 != 0o751 || st.Uid != 3 {
			t.Errorf("root is %o, owner %d", st.Mode&0o7777, st.Uid)
		}
	}
	InMount(t, m, check)
	build(t, s, on(nil, base, l), snapshot.CommitOptions{}, check)
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}
