package portable

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/object"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// describe lists what is below a folder, as a maker sees it.
func describe(t *testing.T, m *object.Maker, root string) string {
	t.Helper()
	var b strings.Builder
	w, err := NewWriter(&b, root)
	must(t, err, w.Add(t.Context(), m, "layers", nil), w.Close())
	return b.String()
}

func anywhere(m *object.Maker) func(string) Place {
	return func(string) Place { return Place{Maker: m, Any: true} }
}

// What is written is read again: owners, modes, attributes, links, holes, whiteouts.
func TestRoundTrip(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	m := object.NewMaker()
	at := func(name string) string { return filepath.Join(from, "layers", name) }
	must(t, os.MkdirAll(at("d/e"), 0o755), os.WriteFile(at("d/a"), []byte("content"), 0o640), os.Link(at("d/a"), at("d/b")))
	must(t, os.WriteFile(at("d/\xff"), nil, 0o4711), os.Symlink("/etc/passwd", at("l")), unix.Mkfifo(at("p"), 0o600))
	must(t, unix.Chmod(at("d/e"), 0o2750), m.MarkOpaque(at("d/e")))
	_ = unix.Setxattr(at("d/a"), "user.x", []byte{0, 255, '='}, 0) // where the file system can
	_ = os.Lchown(at("d/a"), 5, 6)                                 // where the user may
	_ = unix.Mknod(at("gone"), unix.S_IFCHR, 0)
	f, err := os.Create(at("holes"))
	must(t, err)
	_, err = f.WriteAt([]byte("in the middle"), 3<<20)
	must(t, err, f.Truncate(8<<20), f.Close(), object.SetTime(at("d"), time.Unix(1e9, 5)))

	text := describe(t, m, from)
	if len(text) > 1<<20 {
		t.Errorf("the holes are written: %d bytes", len(text))
	}
	r := &Reader{Dir: to, Place: anywhere(m)}
	must(t, r.Read(t.Context(), strings.NewReader(text)))
	if again := describe(t, m, to); again != text {
		t.Error("what was read is not what was written")
	}
	for n := range len(text) / 512 {
		r := &Reader{Dir: t.TempDir(), Place: anywhere(m)}
		if err := r.Read(t.Context(), strings.NewReader(text[:n*512])); !errors.Is(err, ErrFormat) {
			if n*512 < len(text)-1024 { // but for the end of the tar
				t.Errorf("%d of %d bytes: %v", n*512, len(text), err)
			}
		}
	}
}

// A file may have more parts than a header of a tar can hold.
func TestManyHoles(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	m := object.NewMaker()
	must(t, os.Mkdir(filepath.Join(from, "layers"), 0o755))
	f, err := os.Create(filepath.Join(from, "layers", "holes"))
	must(t, err)
	const step, count = 64 << 20, 60_000 // their places have many digits: few are enough
	for i := range int64(count) {
		_, err = f.WriteAt([]byte{byte(i), 1}, i*step)
		must(t, err)
	}
	must(t, f.Truncate(count*step), f.Close())
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		out, err := NewWriter(w, from)
		if err == nil {
			err = errors.Join(out.Add(t.Context(), m, "layers", nil), out.Close())
		}
		w.CloseWithError(err)
	}()
	must(t, (&Reader{Dir: to, Place: anywhere(m)}).Read(t.Context(), r))
	f, err = os.Open(filepath.Join(to, "layers", "holes"))
	must(t, err)
	defer f.Close()
	fi, err := f.Stat()
	must(t, err)
	if fi.Size() != count*step || !hasHoles(fi) {
		t.Errorf("it has %d bytes, and holes: %v", fi.Size(), hasHoles(fi))
	}
	for i := range int64(count) {
		var b [3]byte
		_, err = f.ReadAt(b[:], i*step)
		must(t, err)
		if b != [3]byte{byte(i), 1} {
			t.Fatalf("part %d is %v", i, b)
		}
	}
}

// Nothing is made elsewhere, whatever an archive says.
func TestHostile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Mkdir(outside, 0o755))
	file := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	dir := func(name string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}
	}
	link := func(kind byte, name, to string) *tar.Header {
		return &tar.Header{Typeflag: kind, Name: name, Linkname: to}
	}
	for what, members := range map[string][]*tar.Header{
		"above":               {file("../outside/x")},
		"absolute":            {file(outside + "/x")},
		"above, in the name":  {dir("a"), file("a/../../outside/x")},
		"below nothing":       {file("a/x")},
		"below a file":        {file("a"), file("a/x")},
		"below a link":        {link(tar.TypeSymlink, "a", outside), file("a/x")},
		"in place of a link":  {link(tar.TypeSymlink, "a", outside+"/x"), file("a")},
		"a folder for a link": {link(tar.TypeSymlink, "a", outside), dir("a"), file("a/x")},
		"a link to outside":   {link(tar.TypeLink, "a", "../outside")},
		"a link to absolute":  {link(tar.TypeLink, "a", "/etc/passwd")},
		"a link through one":  {link(tar.TypeSymlink, "a", "/etc"), link(tar.TypeLink, "b", "a/passwd")},
		"the folder itself":   {dir(".")},
		"nothing":             {file("")},
		"twice":               {file("a"), file("a")},
		"refused":             {file("refused")},
		"holes before":        {{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{sizeKey: "5", dataKey: "-9+0"}}},
		"holes beyond":        {{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{sizeKey: "5", dataKey: "5+9223372036854775807"}}},
		"map too short":       {{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{sizeKey: "5", mapKey: "3"}}},
		"map of no length":    {{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{sizeKey: "5", mapKey: "-1"}}},
		"another type":        {{Typeflag: tar.TypeCont, Name: "a"}},
	} {
		var b bytes.Buffer
		w := &Writer{tw: tar.NewWriter(&b)}
		must(t, w.mark(first, version))
		for _, h := range members {
			must(t, w.tw.WriteHeader(h))
		}
		w.count = len(members)
		must(t, w.Close())
		in := filepath.Join(filepath.Dir(outside), "in")
		must(t, os.RemoveAll(in), os.Mkdir(in, 0o755))
		m := object.NewMaker()
		r := &Reader{Dir: in, Place: func(name string) Place {
			if name == "refused" {
				return Place{}
			}
			return Place{Maker: m, Any: true}
		}}
		if err := r.Read(t.Context(), &b); err == nil {
			t.Errorf("%s: it was read", what)
		}
		if names, err := os.ReadDir(outside); err != nil || len(names) > 0 {
			t.Errorf("%s: outside are %v, %v", what, names, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(outside, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// What a folder must not have is refused.
func TestPlain(t *testing.T) {
	var b bytes.Buffer
	w := &Writer{tw: tar.NewWriter(&b), count: 1}
	must(t, w.mark(first, version), w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "b"}), w.Close())
	r := &Reader{Dir: t.TempDir(), Place: func(string) Place { return Place{Maker: object.NewMaker()} }}
	if err := r.Read(t.Context(), &b); !errors.Is(err, ErrFormat) {
		t.Errorf("a symlink among records: %v", err)
	}
}
