package snapshot_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

func openStore(t testing.TB) *snapshot.Store {
	t.Helper()
	s, err := snapshot.Open(t.TempDir(), snapshot.Options{})
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

func content(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func file(path, data string) snapshot.Change {
	return snapshot.Change{Entry: snapshot.Entry{Path: path, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(1e9, 0)}, Open: content(data)}
}

func dir(path string) snapshot.Change {
	return snapshot.Change{Entry: snapshot.Entry{Path: path, Type: snapshot.TypeDir, Mode: 0o755, ModTime: time.Unix(1e9, 0)}}
}

func readTar(t testing.TB, s *snapshot.Store, l snapshot.Layer) (names []string, data []byte) {
	t.Helper()
	r, err := s.Tar(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err = io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if d := digest.FromBytes(data); d != digest.Digest(l.DiffID) {
		t.Fatalf("tar is %s, layer says %s", d, l.DiffID)
	}
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return names, data
		}
		if err != nil {
			t.Fatal(err)
		}
		n := h.Name
		if h.Linkname != "" {
			n += " -> " + h.Linkname
		}
		names = append(names, n)
	}
}

func TestWriteLayer(t *testing.T) {
	needRoot(t)
	for _, asDir := range []bool{false, true} {
		t.Run(fmt.Sprint("dir=", asDir), func(t *testing.T) {
			s := openStore(t)
			big := strings.Repeat("0123456789abcdef", 40000)
			link := snapshot.Change{Entry: snapshot.Entry{Path: "a/alink", Type: snapshot.TypeFile, Mode: 0o644, Hardlink: "a/file"}}
			last := link
			last.Entry.Path = "a/zlink"
			l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{
				file("a/file", "hello"), dir("a"), link, last, file("big", big), file("a-b", ""),
				{Entry: snapshot.Entry{Path: "s", Type: snapshot.TypeSymlink, Linkname: "a/file"}},
			}, snapshot.WriteOptions{Dir: asDir})
			if err != nil {
				t.Fatal(err)
			}
			names, before := readTar(t, s, l)
			want := "a/|a/alink|a/file -> a/alink|a/zlink -> a/alink|a-b|big|s -> a/file"
			if got := strings.Join(names, "|"); got != want {
				t.Errorf("tar has %s, want %s", got, want)
			}
			if err := s.Materialize(t.Context(), snapshot.Stack{l}); err != nil {
				t.Fatal(err)
			}
			if _, after := readTar(t, s, l); !bytes.Equal(before, after) {
				t.Error("the tar made from the directory differs")
			}
			got, err := os.ReadFile(filepath.Join(s.Root(), "layers", string(l.ID), "dir/big"))
			if err != nil || string(got) != big {
				t.Errorf("big file: %d bytes, %v", len(got), err)
			}
			again, ok := s.Lookup(snapshot.Stack{l}.ChainID())
			if !ok || again != l {
				t.Errorf("lookup: %v %v", again, ok)
			}
		})
	}
}

func TestWriteLayerErrors(t *testing.T) {
	s := openStore(t)
	lying := file("f", "hello")
	lying.Entry.Digest = digest.FromString("hallo")
	short := file("f", "hello")
	short.Entry.Size = 4
	for name, c := range map[string]struct {
		changes []snapshot.Change
		want    string
	}{
		"digest":   {[]snapshot.Change{lying}, "f changed while it was read"},
		"size":     {[]snapshot.Change{short}, "f changed while it was read"},
		"twice":    {[]snapshot.Change{file("f", ""), dir("f")}, "f is changed twice"},
		"parent":   {[]snapshot.Change{file("x/f", "")}, "x/f has no parent directory"},
		"below":    {[]snapshot.Change{file("x", ""), file("x/f", "")}, "x is no directory"},
		"bad path": {[]snapshot.Change{file("../f", "")}, `bad path "../f"`},
	} {
		_, err := s.WriteLayer(t.Context(), nil, c.changes, snapshot.WriteOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(s.Root(), "tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v %v", left, err)
	}
	if _, err := s.Tree(t.Context(), snapshot.Stack{{ID: snapshot.LayerID(strings.Repeat("0", 64))}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing layer: %v", err)
	}
}

func benchChanges(b *testing.B, n int) []snapshot.Change {
	root := b.TempDir()
	data := bytes.Repeat([]byte("some source text\n"), 240)
	var changes []snapshot.Change
	for d := range (n + 99) / 100 {
		name := fmt.Sprintf("dir%04d", d)
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			b.Fatal(err)
		}
		changes = append(changes, dir(name))
		for f := range 100 {
			p := fmt.Sprintf("%s/file%02d", name, f)
			if err := os.WriteFile(filepath.Join(root, p), data, 0o644); err != nil {
				b.Fatal(err)
			}
			c := file(p, string(data))
			c.Open, c.HostPath = nil, filepath.Join(root, p)
			changes = append(changes, c)
		}
	}
	return changes
}

func BenchmarkWriteLayer50k(b *testing.B) {
	changes := benchChanges(b, 50000)
	for _, asDir := range []bool{false, true} {
		b.Run(fmt.Sprint("dir=", asDir), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s := openStore(b)
				if _, err := s.WriteLayer(b.Context(), nil, changes, snapshot.WriteOptions{Dir: asDir}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
