package inputs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/parser/mistake"
)

func TestOpenContext(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/Dockerfile", "FROM a")
	write("b/dockerfile", "FROM b")
	write("c/sub/My.Dockerfile", "FROM c")
	write("other.Dockerfile", "FROM other")
	for _, c := range []struct{ path, file, stdin, want string }{
		{path: "a", want: "FROM a"},
		{path: "b", want: "FROM b"},
		{path: "c", file: "c/sub/My.Dockerfile", want: "FROM c"},
		{path: "a", file: "other.Dockerfile", want: "FROM other"},
		{path: "a", file: filepath.Join(dir, "other.Dockerfile"), want: "FROM other"},
		{path: "a", file: "-", stdin: "FROM stdin", want: "FROM stdin"},
		{path: "-", stdin: "FROM stdin", want: "FROM stdin"},
	} {
		got, err := openContext(t.Context(), Spec{Context: c.path, Dockerfile: c.file, Stdin: strings.NewReader(c.stdin)})
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if string(got.src) != c.want {
			t.Errorf("%+v: read %q", c, got.src)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if got.temp != "" && exists(got.temp) {
			t.Errorf("%s is left behind", got.temp)
		}
	}
	for _, c := range []struct{ path, file, want string }{
		{path: "missing", want: "no such file"},
		{path: "other.Dockerfile", want: "not a directory"},
		{path: "c", want: "no Dockerfile"},
		{path: "c", file: "sub/My.Dockerfile", want: "no Dockerfile"},
		{path: "-", file: "-", want: "stdin"},
		{path: "https://example.com/x.git?what=1", want: `unexpected query "what"`},
		{path: "git@example.com:x?tag=a&branch=b", want: "branch conflicts with tag"},
	} {
		_, err := openContext(t.Context(), Spec{Context: c.path, Dockerfile: c.file, Stdin: strings.NewReader("")})
		var m *mistake.Error
		if !errors.As(err, &m) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %#v", c, err)
		}
	}
}

func TestTarContext(t *testing.T) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	tw := tar.NewWriter(z)
	add := func(h tar.Header, body string) {
		t.Helper()
		h.Size = int64(len(body))
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "Dockerfile", Typeflag: tar.TypeReg, Mode: 0o644}, "FROM scratch")
	add(tar.Header{Name: "bin/tool", Typeflag: tar.TypeReg, Mode: 0o4755}, "tool")
	add(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, "")
	add(tar.Header{Name: "../../escape", Typeflag: tar.TypeReg, Mode: 0o644}, "x")
	if err := errors.Join(tw.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	c, err := openContext(t.Context(), Spec{Context: "-", Stdin: bytes.NewReader(buf.Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if string(c.src) != "FROM scratch" {
		t.Errorf("Dockerfile %q", c.src)
	}
	if fi, err := os.Stat(filepath.Join(c.dir, "bin/tool")); err != nil || fi.Mode() != 0o755|fs.ModeSetuid {
		t.Errorf("tool: %v %v", fi, err)
	}
	if !exists(filepath.Join(c.dir, "escape")) {
		t.Error("a path with .. is not kept inside")
	}
	tw = tar.NewWriter(&buf)
	buf.Reset()
	add(tar.Header{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, "")
	add(tar.Header{Name: "d/evil", Typeflag: tar.TypeReg, Mode: 0o644}, "x")
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openContext(t.Context(), Spec{Context: "-", Stdin: bytes.NewReader(buf.Bytes())}); err == nil {
		t.Error("a tar writes through a symlink that leaves the context")
	}
}

// TestTarDockerfileLinks: in a context that is fetched no symlink of the Dockerfile's
// name leads out.
func TestTarDockerfileLinks(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "Dockerfile"), []byte("FROM outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, target, file string }{
		{"Dockerfile", filepath.Join(outside, "Dockerfile"), ""},
		{"Dockerfile", strings.Repeat("../", 40) + outside + "/Dockerfile", ""},
		{"link", outside, "link/Dockerfile"},
		{"link", "..", "link/../" + outside + "/Dockerfile"},
	} {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		if err := errors.Join(tw.WriteHeader(&tar.Header{Name: c.name, Typeflag: tar.TypeSymlink, Linkname: c.target}), tw.Close()); err != nil {
			t.Fatal(err)
		}
		got, err := openContext(t.Context(), Spec{Context: "-", Dockerfile: c.file, Stdin: &buf})
		if err == nil {
			t.Errorf("%+v: read %q", c, got.src)
			got.Close()
		}
	}
}
