package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tarsplit"
	"layered.build/builder/snapshot/tree"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeTar writes entries whose names say what they are: "d/", "l->target", "h=>file",
// else a file with the name as content, repeated.
func makeTar(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Uid: os.Geteuid(), Gid: os.Getegid(), ModTime: time.Unix(9, 0)}
		var text string
		if from, to, ok := strings.Cut(name, "->"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, from, to
		} else if from, to, ok := strings.Cut(name, "=>"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, from, to
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o750
		} else if !strings.Contains(name, ".wh.") {
			text = strings.Repeat(name, 10+len(name)%3*20000)
		}
		h.Size = int64(len(text))
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, text)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func target(t testing.TB) (Target, *int64) {
	at := t.TempDir()
	grown := new(int64)
	return Target{
		Maker: object.NewMaker(), Dir: filepath.Join(at, "dir"), Dup: filepath.Join(at, "dup"),
		Manifest: filepath.Join(at, "manifest"), Split: filepath.Join(at, "split"),
		Grow: func(n int64) error { *grown += n; return nil },
	}, grown
}

func paths(t testing.TB, manifestPath string) string {
	t.Helper()
	x, err := manifest.Open(manifestPath)
	must(t, err)
	var out []string
	for i := range x.Len() {
		r, err := x.Record(i)
		must(t, err)
		name := string(r.Type) + r.Path
		if r.Hardlink != "" {
			name += "=>" + r.Hardlink
		}
		if r.Opaque {
			name += "!"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// TestTar proves that a tar becomes what it says, and that it can be told again.
func TestTar(t *testing.T) {
	data := makeTar(t, "d/", "d/file", "d/hard=>d/file", "implied/large-file", "d/l->../x", "twice", "d/file2", "twice", "./")
	for _, c := range []struct {
		name string
		data []byte
	}{{"plain", data}, {"gzip", gzipped(data)}} {
		to, grown := target(t)
		l, err := Tar(t.Context(), bytes.NewReader(c.data), to)
		must(t, err)
		if l.Digest != digest.FromBytes(data) || l.Size != int64(len(data)) || l.Empty || l.Whiteouts || l.Root == nil {
			t.Errorf("%s: %+v", c.name, l)
		}
		const want = "d. dd fd/file fd/file2 fd/hard=>d/file ld/l dimplied fimplied/large-file ftwice"
		if got := paths(t, to.Manifest); got != want {
			t.Errorf("%s: it has\n%s, not\n%s", c.name, got, want)
		}
		if *grown < 4*4096 {
			t.Errorf("%s: it was asked for %d bytes only", c.name, *grown)
		}
		var again bytes.Buffer
		must(t, tarsplit.Assemble(t.Context(), tarsplit.Forms{Split: to.Split, Dir: to.Dir, Dup: to.Dup}, &again))
		if !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%s: the tar that is told again is another one", c.name)
		}
	}
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// TestBased proves what a layer does to those below, and that these are looked at only
// where that is necessary.
func TestBased(t *testing.T) {
	below := tree.NewMerged()
	to, _ := target(t)
	_, err := Tar(t.Context(), bytes.NewReader(makeTar(t, "d/", "d/x", "link->d", "f")), to)
	must(t, err)
	must(t, below.Add(to.Manifest, to.Dir, filepath.Join(t.TempDir(), "none")))
	for _, c := range []struct {
		names, want string
		movable     bool
	}{
		{"own/ own/f", "down fown/f", true},
		{"d/new", "dd fd/new", false},
		{"link/new", "dd fd/new", false},
		{".wh.f", "wf", false},
		{"d/ d/.wh..wh..opq d/y", "dd! fd/y", false},
		{"h=>f", "ff fh=>f", false},
	} {
		to, _ := target(t)
		looked := false
		to.Based = true
		to.Lower = func(context.Context) (tree.Tree, error) { looked = true; return below, nil }
		l, err := Tar(t.Context(), bytes.NewReader(makeTar(t, strings.Fields(c.names)...)), to)
		must(t, err)
		if got := paths(t, to.Manifest); got != c.want || l.Movable != c.movable || looked && l.Movable {
			t.Errorf("%s: %s, not %s; movable %v, looked below %v", c.names, got, c.want, l.Movable, looked)
		}
	}
}

func TestTarErrors(t *testing.T) {
	whole := makeTar(t, "a", "b")
	for name, data := range map[string][]byte{
		"cut off":   whole[:700],
		"leads out": makeTar(t, "../x"),
		"no target": makeTar(t, "h=>none"),
	} {
		to, _ := target(t)
		if _, err := Tar(t.Context(), bytes.NewReader(data), to); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	full := errors.New("full")
	to, _ := target(t)
	to.Grow = func(int64) error { return full }
	if _, err := Tar(t.Context(), bytes.NewReader(whole), to); !errors.Is(err, full) {
		t.Errorf("there is no room: %v", err)
	}
}

// TestForm proves that a directory can be made of the tar that was made here.
func TestForm(t *testing.T) {
	at := t.TempDir()
	man, err := manifest.Create(filepath.Join(at, "manifest"))
	must(t, err)
	out, err := os.Create(filepath.Join(at, "tar"))
	must(t, err)
	defer out.Close()
	texts := map[string]string{"d/large": strings.Repeat("large", object.SmallFile), "d/small": "small", "f": ""}
	_, err = pack.Run(t.Context(), pack.Target{Maker: object.NewMaker(), Out: out, Manifest: man}, func(_ context.Context, emit func(pack.Item) error) error {
		err := emit(pack.Item{Record: manifest.Record{Entry: manifest.Entry{Path: "d", Type: manifest.TypeDir, Mode: 0o500, ModTime: time.Unix(3, 0)}}})
		for _, p := range []string{"d/large", "d/small", "f"} {
			r := manifest.Record{Entry: manifest.Entry{Path: p, Type: manifest.TypeFile, Mode: 0o640, Size: int64(len(texts[p])), ModTime: time.Unix(3, 0)}}
			err = errors.Join(err, emit(pack.Item{Record: r, Linked: p == "f", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(texts[p])), nil }}))
		}
		return errors.Join(err, emit(pack.Item{Record: manifest.Record{Entry: manifest.Entry{Path: "g", Type: manifest.TypeFile, Hardlink: "f", Mode: 0o640, ModTime: time.Unix(3, 0)}}}))
	})
	must(t, err)
	_, err = man.Finish()
	must(t, err)
	idx, err := manifest.Open(filepath.Join(at, "manifest"))
	must(t, err)
	dir := filepath.Join(at, "dir")
	must(t, os.Mkdir(dir, 0o700))
	if os.Geteuid() != 0 {
		t.Skip("entries are root's")
	}
	must(t, Form(t.Context(), object.NewMaker(), idx, out, dir))
	for p, text := range texts {
		if got, err := os.ReadFile(filepath.Join(dir, p)); err != nil || string(got) != text {
			t.Errorf("%s has %d bytes, %v", p, len(got), err)
		}
	}
	f, err1 := os.Stat(filepath.Join(dir, "f"))
	g, err2 := os.Stat(filepath.Join(dir, "g"))
	d, err3 := os.Stat(filepath.Join(dir, "d"))
	must(t, errors.Join(err1, err2, err3))
	if !os.SameFile(f, g) || d.ModTime().Unix() != 3 || d.Mode().Perm() != 0o500 {
		t.Errorf("links, times or modes are lost: %v %v", d.ModTime(), d.Mode())
	}
}
