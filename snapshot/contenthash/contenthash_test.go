package contenthash

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

func tree(t *testing.T, changes ...snapshot.Change) snapshot.Tree {
	t.Helper()
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := s.WriteLayer(t.Context(), nil, changes, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := s.Tree(t.Context(), snapshot.Stack{l})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func entry(typ snapshot.EntryType, path, data string, edit func(*snapshot.Entry)) snapshot.Change {
	c := snapshot.Change{Entry: snapshot.Entry{Path: path, Type: typ, Mode: 0o644}}
	switch typ {
	case snapshot.TypeFile:
		c.Entry.Size = int64(len(data))
		c.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }
	case snapshot.TypeSymlink:
		c.Entry.Linkname = data
	}
	if edit != nil {
		edit(&c.Entry)
	}
	return c
}

func sumOf(t *testing.T, opts Options, changes ...snapshot.Change) digest.Digest {
	t.Helper()
	d, err := Paths(t.Context(), tree(t, append(changes, entry(snapshot.TypeDir, "d", "", nil))...), []string{"d"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPaths(t *testing.T) {
	f := func(edit func(*snapshot.Entry)) snapshot.Change { return entry(snapshot.TypeFile, "d/f", "data", edit) }
	base := sumOf(t, Options{}, f(nil))
	if got := sumOf(t, Options{}, f(func(e *snapshot.Entry) { e.ModTime = time.Unix(5, 0) }), entry(snapshot.TypeFile, "other", "x", nil)); got != base {
		t.Error("times or other paths count")
	}
	for name, c := range map[string]snapshot.Change{
		"content": entry(snapshot.TypeFile, "d/f", "DATA", nil),
		"name":    entry(snapshot.TypeFile, "d/g", "data", nil),
		"type":    entry(snapshot.TypeSymlink, "d/f", "data", nil),
		"mode":    f(func(e *snapshot.Entry) { e.Mode = 0o755 }),
		"owner":   f(func(e *snapshot.Entry) { e.UID = 1 }),
		"xattr":   f(func(e *snapshot.Entry) { e.Xattrs = map[string]string{"user.a": "b"} }),
	} {
		if sumOf(t, Options{}, c) == base {
			t.Errorf("%s does not count", name)
		}
	}
	if sumOf(t, Options{IgnoreOwner: true}, f(nil)) != sumOf(t, Options{IgnoreOwner: true}, f(func(e *snapshot.Entry) { e.UID = 1 })) {
		t.Error("the owner counts although it is ignored")
	}
	if sumOf(t, Options{IgnoreMode: true}, f(nil)) != sumOf(t, Options{IgnoreMode: true}, f(func(e *snapshot.Entry) { e.Mode = 0 })) {
		t.Error("the mode counts although it is ignored")
	}
	skip := Options{Skip: func(e *snapshot.Entry) bool { return e.Path == "d/skipped" }}
	if sumOf(t, skip, f(nil), entry(snapshot.TypeFile, "d/skipped", "x", nil)) != base {
		t.Error("what is skipped counts")
	}
	if _, err := Paths(t.Context(), tree(t, f(nil), entry(snapshot.TypeDir, "d", "", nil)), []string{"d/none"}, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing path: %v", err)
	}
}

// unindexed hides digests, as a tree without an index does.
type unindexed struct{ snapshot.Tree }

func (u unindexed) Lstat(p string) (*snapshot.Entry, error) {
	e, err := u.Tree.Lstat(p)
	return strip(e), err
}

func (u unindexed) ReadDir(p string) ([]*snapshot.Entry, error) {
	es, err := u.Tree.ReadDir(p)
	for i := range es {
		es[i] = strip(es[i])
	}
	return es, err
}

func strip(e *snapshot.Entry) *snapshot.Entry {
	if e == nil {
		return nil
	}
	c := *e
	c.Digest = ""
	return &c
}

type failing struct{ unindexed }

func (failing) Digest(string) (digest.Digest, error) { return "", os.ErrPermission }

func TestWithoutIndex(t *testing.T) {
	var changes []snapshot.Change
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		changes = append(changes, entry(snapshot.TypeFile, string(c), strings.Repeat(string(c), 1000), nil))
	}
	tr := tree(t, changes...)
	want, err := Paths(t.Context(), tr, []string{"."}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Paths(t.Context(), unindexed{tr}, []string{"."}, Options{}); err != nil || got != want {
		t.Errorf("without index %s, with %s: %v", got, want, err)
	}
	if _, err := Paths(t.Context(), failing{unindexed{tr}}, []string{"."}, Options{}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("unreadable file: %v", err)
	}
}
