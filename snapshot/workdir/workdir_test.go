package workdir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tree"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// layer makes a layer of what a walk emits, as a manifest and a tar, and puts it on top
// of others.
func layer(t *testing.T, walk pack.Walk, settle func() error, below ...string) (stack []string) {
	t.Helper()
	at := t.TempDir()
	man, err := manifest.Create(filepath.Join(at, "manifest"))
	must(t, err)
	out, err := os.Create(filepath.Join(at, "tar"))
	must(t, err)
	_, err = pack.Run(t.Context(), pack.Target{Maker: object.NewMaker(), Out: out, Manifest: man}, walk)
	must(t, err)
	_, err = man.Finish()
	must(t, errors.Join(err, out.Close(), settle()))
	return append([]string{at}, below...)
}

// merged is the view of layers, the topmost first.
func merged(t *testing.T, stack []string) *tree.Merged {
	t.Helper()
	m := tree.NewMerged()
	for _, at := range stack {
		must(t, m.Add(filepath.Join(at, "manifest"), filepath.Join(at, "dir"), filepath.Join(at, "tar")))
	}
	return m
}

// show lists a directory with the contents of its files.
func show(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		rel := strings.TrimPrefix(p, dir+"/")
		if err != nil || p == dir {
			return err
		}
		if d.Type().IsRegular() {
			text, err := os.ReadFile(p)
			must(t, err)
			rel += "=" + string(text)
		}
		out = append(out, rel)
		return nil
	}))
	return strings.Join(out, " ")
}

// write changes files of a directory: "f=text" or "d/"; "-f" removes.
func write(t *testing.T, dir, list string) {
	t.Helper()
	for item := range strings.FieldsSeq(list) {
		name, text, isFile := strings.Cut(item, "=")
		switch {
		case strings.HasPrefix(item, "-"):
			must(t, os.RemoveAll(filepath.Join(dir, item[1:])))
		case isFile:
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		default:
			must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		}
	}
}

func newDir(t *testing.T) *Dir {
	t.Helper()
	w, err := New(object.NewMaker(), filepath.Join(t.TempDir(), "tree"))
	must(t, err)
	return w
}

var root = object.Root{Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}

// TestSteps goes on in one directory step by step. After each the layer has what was
// changed, and the layers laid out anew, or on top of the first ones, are the same.
func TestSteps(t *testing.T) {
	w := newDir(t)
	must(t, w.Ready(root))
	var stack []string
	for i, step := range []struct{ change, entries string }{
		{"d/ d/f=1 d/g=2 h=3", "dd fd/f fd/g fh"},
		{"d/f=changed", "dd fd/f"},
		{"-d/g new=4", "dd wd/g fnew"},
		{"-d d=file", "fd"},
		{"-d d/ d/again=5", "dd fd/again"},
		{"", ""},
	} {
		time.Sleep(2 * tickDoubt) // so that what is unchanged need not be compared
		write(t, w.Path(), step.change)
		want := show(t, w.Path())
		d := w.Diff(merged(t, stack), nil)
		var got []string
		stack = layer(t, func(ctx context.Context, emit func(pack.Item) error) error {
			return d.Walk(ctx, func(it pack.Item) error {
				got = append(got, string(it.Record.Type)+it.Record.Path)
				return emit(it)
			})
		}, d.Settle, stack...)
		if strings.Join(got, " ") != step.entries || d.Torn() {
			t.Fatalf("step %d has %v, not %s; torn %v", i, got, step.entries, d.Torn())
		}
		must(t, d.Adopt())
		fresh := newDir(t)
		must(t, fresh.Fill(t.Context(), merged(t, stack)))
		if got := show(t, fresh.Path()); got != want {
			t.Errorf("step %d anew is %s, not %s", i, got, want)
		}
		for n := range stack {
			base := newDir(t)
			must(t, base.Fill(t.Context(), merged(t, stack[n:])))
			must(t, base.Ready(root))
			must(t, base.Update(t.Context(), merged(t, stack), n))
			if got := show(t, base.Path()); got != want {
				t.Errorf("step %d with %d new layers is %s, not %s", i, n, got, want)
			}
		}
	}
}

// TestTorn proves that a file is seen of which one name is old and another one new.
func TestTorn(t *testing.T) {
	w := newDir(t)
	must(t, w.Ready(root))
	write(t, w.Path(), "a=1 b=2")
	d := w.Diff(merged(t, nil), nil)
	stack := layer(t, d.Walk, d.Settle)
	must(t, d.Adopt())
	must(t, os.Link(filepath.Join(w.Path(), "a"), filepath.Join(w.Path(), "c")))
	d = w.Diff(merged(t, stack), nil)
	layer(t, d.Walk, d.Settle)
	if !d.Torn() {
		t.Error("nobody noticed")
	}
}

func TestEpoch(t *testing.T) {
	w := newDir(t)
	must(t, w.Ready(root))
	write(t, w.Path(), "a=1 d/ d/b=2")
	epoch := time.Unix(100, 0)
	d := w.Diff(merged(t, nil), &epoch)
	stack := layer(t, d.Walk, d.Settle)
	m := merged(t, stack)
	for _, p := range []string{"a", "d", "d/b"} {
		e, err := m.Lstat(p)
		must(t, err)
		fi, err := os.Lstat(filepath.Join(w.Path(), p))
		must(t, err)
		if !e.ModTime.Equal(epoch) || !fi.ModTime().Equal(epoch) {
			t.Errorf("%s has %v in the layer and %v on disk", p, e.ModTime, fi.ModTime())
		}
	}
}
