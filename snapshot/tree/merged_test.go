package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addLayer adds a layer of a list like "d/ d/f=text l->target -gone o/!": a folder, a
// file, a symlink, a whiteout, an opaque folder. Odd layers are a tar, others a folder.
func addLayer(t *testing.T, m *Merged, list string) {
	t.Helper()
	at := t.TempDir()
	w, err := manifest.Create(filepath.Join(at, "manifest"))
	must(t, err)
	var tar strings.Builder
	tar.WriteString("before")
	inTar := len(m.Layers)%2 == 1
	for item := range strings.FieldsSeq(list) {
		r := manifest.Record{Entry: manifest.Entry{Mode: 0o755}}
		name, text, isFile := strings.Cut(item, "=")
		from, target, isLink := strings.Cut(item, "->")
		switch {
		case isLink:
			r.Path, r.Linkname, r.Type = from, target, manifest.TypeSymlink
		case isFile:
			r.Path, r.Type, r.Size, r.Digest = name, manifest.TypeFile, int64(len(text)), digest.FromString(text)
			if inTar {
				r.Offset = int64(tar.Len())
				tar.WriteString(text)
			} else {
				must(t, os.MkdirAll(filepath.Join(at, "dir", path.Dir(name)), 0o700))
				must(t, os.WriteFile(filepath.Join(at, "dir", name), []byte(text), 0o600))
			}
		case strings.HasPrefix(item, "-"):
			r.Path, r.Type = item[1:], manifest.TypeWhiteout
		default:
			r.Path, r.Type, r.Opaque = strings.TrimRight(item, "/!"), manifest.TypeDir, strings.HasSuffix(item, "!")
		}
		must(t, w.Add(&r))
	}
	_, err = w.Finish()
	must(t, err)
	if inTar {
		must(t, os.WriteFile(filepath.Join(at, "tar"), []byte(tar.String()), 0o600))
	}
	must(t, m.Add(filepath.Join(at, "manifest"), filepath.Join(at, "dir"), filepath.Join(at, "tar")))
}

// show lists a tree with all contents.
func show(t *testing.T, m Tree) string {
	t.Helper()
	var out []string
	must(t, Walk(m, ".", func(e *manifest.Entry) error {
		line := e.Path
		switch e.Type {
		case manifest.TypeFile:
			f, err := m.Open(e.Path)
			must(t, err)
			text, err := io.ReadAll(f)
			must(t, errors.Join(err, f.Close()))
			if d, err := m.Digest(e.Path); err != nil || d != digest.FromBytes(text) {
				t.Errorf("%s: digest %s, %v", e.Path, d, err)
			}
			line += "=" + string(text)
		case manifest.TypeSymlink:
			line += "->" + e.Linkname
		}
		out = append(out, line)
		return nil
	}))
	return strings.Join(out, " ")
}

func TestMerged(t *testing.T) {
	for _, c := range []struct{ layers, want string }{ // topmost first
		{"", "."},
		{"a=1 d/ d/f=2", ". a=1 d d/f=2"},
		{"d/ d/f=new | d/ d/f=old d/g=old", ". d d/f=new d/g=old"},
		{"-a d/ -d/f | a=1 d/ d/f=2 d/g=3", ". d d/g=3"},
		{"d/! d/x=1 | d/ d/f=2 e=3", ". d d/x=1 e=3"},
		{"d=file | d/ d/f=2", ". d=file"},
		{"d/ d/x=1 | d=file | d/ d/f=2", ". d d/x=1"},
		{"d/ d/x=1 | -d | d/ d/f=2", ". d d/x=1"},
		{"l->a | l/ l/f=1 | a=1", ". a=1 l->a"},
		{"./! x=1 | y=2", ". x=1"},
	} {
		m := NewMerged()
		for list := range strings.SplitSeq(c.layers, "|") {
			addLayer(t, m, list)
		}
		if got := show(t, m); got != c.want {
			t.Errorf("%s\nshows %s\nnot   %s", c.layers, got, c.want)
		}
	}
}

func TestMergedErrors(t *testing.T) {
	m := NewMerged()
	addLayer(t, m, "d/ d/f=1")
	for _, p := range []string{"none", "d/none", "d/f/x"} {
		if _, err := m.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []string{"", "/d", "d/", "../d"} {
		if _, err := m.Lstat(p); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", p, err)
		}
	}
	if _, err := m.ReadDir("d/f"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file was listed: %v", err)
	}
	if _, err := m.Open("d"); err == nil {
		t.Error("a folder was opened")
	}
	if host, ok := m.HostPath("d/f"); !ok || filepath.Base(host) != "f" {
		t.Errorf("the file lies at %q, %v", host, ok)
	}
}

func TestResolvePath(t *testing.T) {
	m := NewMerged()
	addLayer(t, m, "a/ a/b/ a/b/f=1 a/up->../c/x abs->/a/b c/ c/x->/abs/./f loop->loop/x out->../../../a")
	for in, want := range map[string]string{
		"":         ".",
		"abs/f":    "a/b/f",
		"a/up":     "a/b/f",
		"/out/b":   "a/b",
		"a/../../": ".",
		"abs/../b": "a/b",
		"none/../": ".",
		"x/y":      "x/y",
	} {
		if got, err := ResolvePath(m, in, true); got != want || err != nil {
			t.Errorf("%q is %q, not %q, %v", in, got, want, err)
		}
	}
	if got, err := ResolvePath(m, "out/up", false); got != "a/up" || err != nil {
		t.Errorf("the last link was followed: %q, %v", got, err)
	}
	if _, err := ResolvePath(m, "loop", true); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}

func TestWalkSkips(t *testing.T) {
	m := NewMerged()
	addLayer(t, m, "a/ a/f=1 b/ b/f=2 b/g=3 c=4")
	for _, c := range []struct {
		at   string
		with error
		want []string
	}{
		{"a", fs.SkipDir, []string{".", "a", "b", "b/f", "b/g", "c"}},
		{"b/f", fs.SkipDir, []string{".", "a", "a/f", "b", "b/f", "c"}},
		{"b/f", fs.SkipAll, []string{".", "a", "a/f", "b", "b/f"}},
	} {
		var got []string
		must(t, Walk(m, ".", func(e *manifest.Entry) error {
			got = append(got, e.Path)
			if e.Path == c.at {
				return c.with
			}
			return nil
		}))
		if !slices.Equal(got, c.want) {
			t.Errorf("%v at %s: %v, not %v", c.with, c.at, got, c.want)
		}
	}
}
