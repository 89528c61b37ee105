package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// write makes files; a name that ends in "/" is a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir, state string, excludes ...string) *Tree {
	t.Helper()
	tree, err := Open(dir, excludes, state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// list returns all paths of a tree.
func list(t *testing.T, tree *Tree) []string {
	t.Helper()
	var out []string
	var visit func(dir string)
	visit = func(dir string) {
		es, err := tree.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			out = append(out, e.Path)
			if e.Type == snapshot.TypeDir {
				visit(e.Path)
			}
		}
	}
	visit(".")
	return out
}

func TestIgnore(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a.go": "", "a.md": "", "sub/b.go": "", "sub/b.md": "", "sub/deep/c.go": "",
		"node_modules/x/index.js": "", "node_modules/keep/index.js": "", "empty/": "",
	})
	for _, tc := range []struct {
		name     string
		patterns []string
		want     string
	}{
		{"none", nil, "a.go a.md empty node_modules node_modules/keep node_modules/keep/index.js node_modules/x node_modules/x/index.js sub sub/b.go sub/b.md sub/deep sub/deep/c.go"},
		{"root only", []string{"*.md", "node_modules"}, "a.go empty sub sub/b.go sub/b.md sub/deep sub/deep/c.go"},
		{"any depth", []string{"**/*.md", "node_modules", "empty"}, "a.go sub sub/b.go sub/deep sub/deep/c.go"},
		{"re-included below an excluded directory", []string{"*", "!sub/deep"}, "sub sub/deep sub/deep/c.go"},
		{"re-included by a wildcard", []string{"*", "!*/keep"}, "node_modules node_modules/keep node_modules/keep/index.js"},
		{"last one wins", []string{"sub", "!sub/b.*", "sub/b.md", "node_modules", "empty"}, "a.go a.md sub sub/b.go"},
		{"everything", []string{"**"}, ""},
		{"all but go files", []string{"**", "!**/*.go"}, "a.go sub sub/b.go sub/deep sub/deep/c.go"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := strings.Join(list(t, open(t, dir, "", tc.patterns...)), " "); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// The matcher must agree with the library that defines the language.
func TestIgnoreAgreesWithLibrary(t *testing.T) {
	paths := []string{"a", "a/b", "a/b/c", "a/b/c.md", "x.md", "a/x.md", "b", "b/a", "b/a/b", "!x", "foo/bar/baz", "foo", "[a]"}
	patterns := [][]string{
		{"a"}, {"a/b"}, {"*"}, {"**"}, {"**/b"}, {"a/**"}, {"*.md"}, {"**/*.md"}, {"*/b"}, {"a", "!a/b"}, {"a", "!a/b", "a/b/c"},
		{"*", "!a"}, {"**", "!**/*.md"}, {"!a"}, {"a", "!**"}, {"[ab]"}, {"?"}, {"a/*/c", "!a/b"}, {"!!x", "*"}, {"*", "!!x"},
		{"**/b", "!a/b/c"}, {"foo/**/baz"}, {"\\[a\\]"}, {"b/", "!b/a", "b/a/b"}, {"a", "!a/*", "a/x.md"}, {"**/a", "!b/**", "**/b"},
	}
	for _, ps := range patterns {
		ig, err := newIgnore(ps)
		if err != nil {
			t.Fatal(err)
		}
		lib, err := patternmatcher.New(ps)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			var want, got bool
			var info patternmatcher.MatchInfo
			var mine []bool
			parts := strings.Split(p, "/")
			for i := range parts {
				sub := strings.Join(parts[:i+1], "/")
				if want, info, err = lib.MatchesUsingParentResults(sub, info); err != nil {
					t.Fatal(err)
				}
				got, mine = ig.match(sub, i+1, mine, true)
			}
			if got != want {
				t.Errorf("%v on %s: %v, the library says %v", ps, p, got, want)
			}
		}
	}
}

func TestInvalidPattern(t *testing.T) {
	for _, p := range []string{"!", "a[", "["} {
		if _, err := Open(t.TempDir(), []string{p}, ""); err == nil {
			t.Errorf("pattern %q is accepted", p)
		}
	}
}

func TestExcludedBy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"secret.txt": "", "d/e/f": "", "ok": ""})
	tree := open(t, dir, "", "*.txt", "d", "!nothing")
	for p, want := range map[string]string{"secret.txt": "*.txt", "d/e/f": "d", "ok": "", "missing.txt": ""} {
		if got, _ := tree.ExcludedBy(p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
}

func TestEntries(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"f": "hello", "d/": ""})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(filepath.Join(dir, "f"), 0o4755))
	must(os.Chmod(filepath.Join(dir, "f"), 0o755|os.ModeSetuid))
	must(os.Symlink("/etc/passwd", filepath.Join(dir, "l")))
	must(os.Symlink("/etc", filepath.Join(dir, "dl")))
	must(os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "h")))
	s, err := net.Listen("unix", filepath.Join(dir, "sock"))
	must(err)
	defer s.Close()
	tree := open(t, dir, "")
	f, err := tree.Lstat("f")
	must(err)
	if f.Type != snapshot.TypeFile || f.Mode != 0o4755 || f.Size != 5 || f.UID != 0 {
		t.Errorf("f: %+v", f)
	}
	if l, err := tree.Lstat("l"); err != nil || l.Type != snapshot.TypeSymlink || l.Linkname != "/etc/passwd" {
		t.Errorf("l: %+v, %v", l, err)
	}
	if a, b := tree.SameFile("f"), tree.SameFile("h"); a == "" || a != b || tree.SameFile("l") != "" {
		t.Errorf("hard links: %q, %q", a, b)
	}
	if e, err := tree.Lstat("sock"); err != nil || e.Type != snapshot.TypeFile || e.Size != 0 {
		t.Errorf("socket: %+v, %v", e, err)
	}
	if r, err := tree.Open("sock"); err != nil {
		t.Errorf("read socket: %v", err)
	} else if b, err := io.ReadAll(r); len(b) != 0 || err != nil {
		t.Errorf("socket reads as %q, %v", b, err)
	}
	for _, p := range []string{"dl/passwd", "l/x", "../x", "nope", "f/x"} {
		if _, err := tree.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat(%s): %v", p, err)
		}
		if _, err := tree.Open(p); err == nil {
			t.Errorf("Open(%s) succeeds", p)
		}
	}
	if d, err := tree.Digest("f"); err != nil || d != digest.FromString("hello") {
		t.Errorf("digest %s, %v", d, err)
	}
}

// settle makes files old enough that the index trusts them.
func settle(t *testing.T) { t.Helper(); time.Sleep(30 * time.Millisecond) } // longer than a clock tick

func TestStatIndex(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"a": "aaaa", "b": "bbbb", "sub/c": "cccc", "sub/d": "dddd"})
	settle(t)
	preload := func() *Tree {
		t.Helper()
		tree := open(t, dir, state)
		if err := tree.Preload(t.Context(), []string{"."}); err != nil {
			t.Fatal(err)
		}
		return tree
	}
	if n := preload().Hashed(); n != 4 {
		t.Fatalf("first time: %d files hashed", n)
	}
	if n := preload().Hashed(); n != 0 {
		t.Fatalf("second time: %d files hashed", n)
	}
	indexes, _ := os.ReadDir(state)
	before, _ := indexes[0].Info()
	preload()
	indexes, _ = os.ReadDir(state)
	if after, _ := indexes[0].Info(); !after.ModTime().Equal(before.ModTime()) || len(indexes) != 1 {
		t.Error("an index without changes was written again")
	}

	p := filepath.Join(dir, "a")
	was, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name   string
		change func() error
		hashed int
	}{
		{"same size and time, other content", func() error {
			if err := os.WriteFile(p, []byte("AAAA"), 0o644); err != nil {
				return err
			}
			return os.Chtimes(p, was.ModTime(), was.ModTime())
		}, 1},
		{"mode", func() error { return os.Chmod(p, 0o600) }, 1},
		{"rename", func() error { return os.Rename(p, filepath.Join(dir, "z")) }, 1},
		{"replaced by a rename", func() error { return os.Rename(filepath.Join(dir, "sub/c"), filepath.Join(dir, "b")) }, 1},
		{"removed directory", func() error { return os.RemoveAll(filepath.Join(dir, "sub")) }, 0},
	}
	for _, s := range steps {
		if err := s.change(); err != nil {
			t.Fatal(err)
		}
		settle(t)
		tree := preload()
		if tree.Hashed() != s.hashed {
			t.Errorf("%s: %d files hashed, want %d", s.name, tree.Hashed(), s.hashed)
		}
		es, err := tree.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Type != snapshot.TypeFile {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, e.Path))
			if err != nil || e.Digest != digest.FromBytes(b) {
				t.Errorf("%s: digest of %s is wrong", s.name, e.Path)
			}
		}
		if n := preload().Hashed(); n != 0 {
			t.Errorf("%s: %d files hashed again", s.name, n)
		}
	}
}

// A file that was written just before it was hashed may be written again without
// looking different.
func TestRacyEntries(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"a": "aaaa"})
	for range 2 {
		tree := open(t, dir, state)
		tree.opened = time.Now().Add(-time.Hour) // the file is newer than that
		if err := tree.Preload(t.Context(), []string{"a"}); err != nil {
			t.Fatal(err)
		}
		if tree.Hashed() != 1 {
			t.Errorf("a racy entry was trusted")
		}
	}
}

func TestDamagedIndex(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"a": "aaaa", "s/b": "b"})
	settle(t)
	tree := open(t, dir, state)
	if err := tree.Preload(t.Context(), []string{"."}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(tree.index.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x55
		if _, err := decodeIndex(bad); err == nil {
			t.Fatalf("byte %d may be flipped", i)
		}
		if _, err := decodeIndex(good[:i]); err == nil {
			t.Fatalf("the index may end after byte %d", i)
		}
	}
	if err := os.WriteFile(tree.index.path, good[:len(good)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, state)
	if err := again.Preload(t.Context(), []string{"."}); err != nil || again.Hashed() != 2 {
		t.Errorf("half an index: %d files hashed, %v", again.Hashed(), err)
	}
}

func TestContextsShareTrees(t *testing.T) {
	c := &Contexts{Dirs: map[string]string{"context": t.TempDir()}}
	defer c.Close()
	a, err := c.Tree(t.Context(), &dag.LocalSource{Name: "context"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := c.Tree(t.Context(), &dag.LocalSource{Name: "context"}); err != nil || a != b {
		t.Errorf("another tree, %v", err)
	}
	if b, err := c.Tree(t.Context(), &dag.LocalSource{Name: "context", Excludes: []string{"x"}}); err != nil || a == b {
		t.Errorf("the same tree with other patterns, %v", err)
	}
	if _, err := c.Tree(t.Context(), &dag.LocalSource{Name: "nope"}); err == nil {
		t.Error("an unknown name has a tree")
	}
}

func BenchmarkPreload50k(b *testing.B) {
	dir, state := b.TempDir(), b.TempDir()
	body := strings.Repeat("x", 4000)
	for d := range 500 {
		sub := filepath.Join(dir, fmt.Sprintf("pkg%03d/src", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%03d.js", f)), []byte(body), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	time.Sleep(50 * time.Millisecond)
	for _, tc := range []struct {
		name     string
		state    string
		excludes []string
	}{
		{"unchanged", state, nil},
		{"unchanged, 12 patterns", state, []string{".git", "**/*.log", "**/node_modules", "dist", "*.md", "**/.DS_Store", "build", "tmp/*", "**/*.pyc", "coverage", "docs/**", "!docs/keep"}},
		{"no index", "", nil},
	} {
		b.Run(tc.name, func(b *testing.B) {
			for b.Loop() {
				tree, err := Open(dir, tc.excludes, tc.state)
				if err != nil {
					b.Fatal(err)
				}
				if err := tree.Preload(b.Context(), []string{"."}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(tree.Hashed()), "hashed")
				tree.Close()
			}
		})
	}
}
