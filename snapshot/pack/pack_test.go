package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(s string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func file(path, text string) Item {
	return Item{Record: manifest.Record{Entry: manifest.Entry{Path: path, Type: manifest.TypeFile, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(5, 0)}}, Open: content(text)}
}

func other(path string, typ manifest.Type) Item {
	return Item{Record: manifest.Record{Entry: manifest.Entry{Path: path, Type: typ, Mode: 0o755, ModTime: time.Unix(7, 0)}}}
}

func emitAll(items ...Item) Walk {
	return func(_ context.Context, emit func(Item) error) error {
		for _, it := range items {
			if err := emit(it); err != nil {
				return err
			}
		}
		return nil
	}
}

// some are items of many kinds, with files that are read at once and streamed ones.
func some() []Item {
	large := strings.Repeat("0123456789abcdef", object.SmallFile/10)
	link := other("d/link", manifest.TypeSymlink)
	link.Record.Linkname, link.Record.Mode = "../x", 0o777
	first := file("d/first", "shared")
	first.Linked = true
	hard := other("d/hard", manifest.TypeFile)
	hard.Record.Hardlink = "d/first"
	items := []Item{other("d", manifest.TypeDir), first, hard, file("d/large", large), link, file("empty", "")}
	for i := range 300 {
		items = append(items, file(fmt.Sprintf("f%03d", i), strings.Repeat("x", i*7)))
	}
	return append(items, other("gone", manifest.TypeWhiteout))
}

// TestRun proves that tar, manifest, tap and directory say the same.
func TestRun(t *testing.T) {
	at := t.TempDir()
	dir := filepath.Join(at, "dir")
	must(t, os.Mkdir(dir, 0o700))
	items := some()
	for i := range items {
		if items[i].Record.UID, items[i].Record.GID = uint32(os.Geteuid()), uint32(os.Getegid()); items[i].Record.Type != manifest.TypeWhiteout {
			items[i].Dest = dir + "/" + items[i].Record.Path
		}
	}
	man, err := manifest.Create(filepath.Join(at, "manifest"))
	must(t, err)
	var out, tap bytes.Buffer
	res, err := Run(t.Context(), Target{Maker: object.NewMaker(), Out: &out, Tap: &tap, Manifest: man}, emitAll(items...))
	must(t, err)
	_, err = man.Finish()
	must(t, err)
	if res.Digest != digest.FromBytes(out.Bytes()) || res.Size != int64(out.Len()) || !bytes.Equal(out.Bytes(), tap.Bytes()) {
		t.Errorf("the tar has %d bytes, the tap got %d, the result is %+v", out.Len(), tap.Len(), res)
	}
	if res.Entries != len(items) || !res.Whiteouts || res.Newest != 7 {
		t.Errorf("the result is %+v", res)
	}
	x, err := manifest.Open(filepath.Join(at, "manifest"))
	must(t, err)
	tr := tar.NewReader(bytes.NewReader(out.Bytes()))
	for i := range items {
		h, err := tr.Next()
		must(t, err)
		r, err := x.Record(i)
		must(t, err)
		if want := items[i].Record.Path; r.Path != want || strings.TrimSuffix(h.Name, "/") != strings.Replace(want, "gone", ".wh.gone", 1) {
			t.Fatalf("entry %d is %s in the manifest and %s in the tar", i, r.Path, h.Name)
		}
		if r.Type != manifest.TypeFile {
			continue
		}
		text, err := io.ReadAll(tr)
		must(t, err)
		if h.Typeflag == tar.TypeLink {
			text = []byte("shared")
		}
		onDisk, err := os.ReadFile(items[i].Dest)
		must(t, err)
		if digest.FromBytes(text) != r.Digest || r.Offset+r.Size > int64(out.Len()) || !bytes.Equal(onDisk, text) || !bytes.Equal(out.Bytes()[r.Offset:r.Offset+r.Size], text) {
			t.Errorf("%s: manifest, tar and directory have different contents", r.Path)
		}
	}
}

// TestTwice proves that the outcome does not depend on how the work is spread.
func TestTwice(t *testing.T) {
	var first Result
	for i := range 5 {
		res, err := Run(t.Context(), Target{Maker: object.NewMaker()}, emitAll(some()...))
		must(t, err)
		if i == 0 {
			first = res
		}
		if res != first {
			t.Fatalf("%+v and %+v", res, first)
		}
	}
}

type refuser struct{ path, text string }

var errRefused = errors.New("refused")

func (r refuser) Inspect(e *manifest.Entry) error {
	if e.Path == r.path {
		return errRefused
	}
	return nil
}

func (r refuser) Content(*manifest.Entry) io.Writer { return r }

func (r refuser) Write(p []byte) (int, error) {
	if r.text != "" && bytes.Contains(p, []byte(r.text)) {
		return 0, errRefused
	}
	return len(p), nil
}

func TestErrors(t *testing.T) {
	long, short, wrong := file("a", "abc"), file("a", "abc"), file("a", "abc")
	long.Record.Size, short.Record.Size = 2, 4
	wrong.Want = digest.FromString("abd")
	large := file("a", strings.Repeat("abc", object.SmallFile))
	cut := large
	cut.Open = content("abc")
	none := other("a", manifest.TypeFile)
	none.Record.Hardlink = "b"
	for name, c := range map[string]struct {
		it   Item
		look Inspector
		is   error
		says string
	}{
		"longer":         {it: long, says: "a changed while it was read"},
		"shorter":        {it: short, says: "a changed while it was read"},
		"another one":    {it: wrong, says: "a changed while it was read"},
		"cut off":        {it: cut, says: "a changed while it was read"},
		"no target":      {it: none, says: "no earlier file"},
		"entry":          {it: short, look: refuser{path: "a"}, is: errRefused},
		"content":        {it: file("a", "a secret"), look: refuser{text: "secret"}, is: errRefused},
		"larger content": {it: large, look: refuser{text: "cab"}, is: errRefused},
	} {
		man, err := manifest.Create(filepath.Join(t.TempDir(), "m"))
		must(t, err)
		_, err = Run(t.Context(), Target{Maker: object.NewMaker(), Manifest: man, Inspector: c.look}, emitAll(c.it, file("b", "")))
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		man.Abort()
	}
	full := errors.New("full")
	if _, err := Run(t.Context(), Target{Maker: object.NewMaker(), Out: failing{full}}, emitAll(some()...)); !errors.Is(err, full) {
		t.Errorf("the output failed: %v", err)
	}
	if _, err := Run(t.Context(), Target{Maker: object.NewMaker(), Tap: failing{full}}, emitAll(some()...)); err != nil {
		t.Errorf("the tap failed: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestNormalize(t *testing.T) {
	epoch := time.Unix(50, 0)
	e := manifest.Entry{
		Path: "d", Type: manifest.TypeDir, Mode: 0o107777, Size: 3, Digest: "x", Linkname: "y", Hardlink: "z", DevMajor: 1,
		ModTime: time.Unix(60, 5), Xattrs: map[string]string{"user.a": "", "security.selinux": "x"},
	}
	must(t, Normalize(&e, &epoch))
	want := manifest.Entry{Path: "d", Type: manifest.TypeDir, Mode: 0o7777, ModTime: epoch, RealTime: time.Unix(60, 0), Xattrs: map[string]string{"user.a": ""}}
	if fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", want) {
		t.Errorf("got\n%+v, not\n%+v", e, want)
	}
	for _, typ := range []manifest.Type{manifest.TypeSocket, 'x'} {
		if Normalize(&manifest.Entry{Type: typ}, nil) == nil {
			t.Errorf("%c was accepted", typ)
		}
	}
}
