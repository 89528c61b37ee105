package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func makeTar(t testing.TB, hs ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		data := h.Uname // abused as content
		h.Uname = ""
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, data string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Uname: data, Uid: os.Geteuid(), Gid: os.Getegid()}
}

func symlink(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Uid: os.Geteuid(), Gid: os.Getegid()}
}

func TestUnpackStaysInRoot(t *testing.T) {
	for name, hs := range map[string][]tar.Header{
		"dot dot":           {reg("../evil", "x")},
		"dot dot in middle": {reg("a/../../../evil", "x")},
		"absolute":          {reg("/../../../evil", "x")},
		"through absolute":  {symlink("l", "OUT"), reg("l/evil", "x")},
		"through relative":  {symlink("l", "../../../../../../../../OUT"), reg("l/evil", "x")},
		"over symlink":      {symlink("evil", "OUT/evil"), reg("evil", "x")},
		"hard link out":     {{Name: "evil", Typeflag: tar.TypeLink, Linkname: "../../OUT/victim"}, reg("evil", "x")},
		"link via symlink":  {symlink("l", "OUT"), {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/victim"}},
		"dir over symlink":  {symlink("l", "OUT"), {Name: "l", Typeflag: tar.TypeDir, Mode: 0o777, Uid: os.Geteuid(), Gid: os.Getegid()}, reg("l/evil", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			out, root := filepath.Join(base, "out"), filepath.Join(base, "root")
			for _, d := range []string{out, root} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(out, "victim"), []byte("safe"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range hs {
				hs[i].Linkname = strings.ReplaceAll(hs[i].Linkname, "OUT", out)
			}
			err := Unpack(t.Context(), root, "/", bytes.NewReader(makeTar(t, hs...)), Options{})
			t.Log(err)
			if b, err := os.ReadFile(filepath.Join(out, "victim")); err != nil || string(b) != "safe" {
				t.Errorf("victim: %q %v", b, err)
			}
			st, err := os.Stat(filepath.Join(out, "victim"))
			if err != nil || st.Sys() == nil || st.Mode() != 0o600 {
				t.Errorf("victim: %v %v", st.Mode(), err)
			}
			for _, dir := range []string{out, base} {
				if _, err := os.Lstat(filepath.Join(dir, "evil")); err == nil {
					t.Errorf("something was written to %s", dir)
				}
			}
		})
	}
}

func TestUnpack(t *testing.T) {
	root := t.TempDir()
	// A symlink of the image, absolute inside it.
	if err := os.MkdirAll(filepath.Join(root, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/run", filepath.Join(root, "var/run")); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1e9, 0)
	d := tar.Header{Name: "new/", Typeflag: tar.TypeDir, Mode: 0o750, ModTime: old, Uid: os.Geteuid(), Gid: os.Getegid()}
	x := reg("new/x", "data")
	x.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.user.overlay.opaque": "y"}
	x.ModTime = old
	data := makeTar(t, d, x, reg("var/run/f", "in run"), tar.Header{Name: "new/h", Typeflag: tar.TypeLink, Linkname: "new/x"},
		reg("twice", "first"), reg("twice", "second"))
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	zw.Write(data)
	zw.Close()
	if err := Unpack(t.Context(), root, "/", &z, Options{}); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"run/f": "in run", "new/x": "data", "new/h": "data", "twice": "second"} {
		if b, err := os.ReadFile(filepath.Join(root, p)); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", p, b, err)
		}
	}
	if l, err := os.Readlink(filepath.Join(root, "var/run")); err != nil || l != "/run" {
		t.Errorf("var/run: %q %v", l, err)
	}
	st, err := os.Stat(filepath.Join(root, "new"))
	if err != nil || !st.ModTime().Equal(old) || st.Mode().Perm() != 0o750 {
		t.Errorf("new: %v %v", st, err)
	}
	var a, b unix.Stat_t
	if unix.Stat(filepath.Join(root, "new/x"), &a) != nil || unix.Stat(filepath.Join(root, "new/h"), &b) != nil || a.Ino != b.Ino {
		t.Error("the hard link is another file")
	}
	var v [8]byte
	if n, err := unix.Getxattr(filepath.Join(root, "new/x"), "user.k", v[:]); err != nil || string(v[:n]) != "v" {
		t.Errorf("user.k: %v", err)
	}
	if _, err := unix.Getxattr(filepath.Join(root, "new/x"), "user.overlay.opaque", v[:]); err == nil {
		t.Error("an archive could set overlay's marks")
	}
}

func TestUnpackOptions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to change owners")
	}
	root := t.TempDir()
	mode, epoch := uint32(0o4711), time.Unix(1e9, 0)
	f := reg("f", "x")
	f.ModTime = epoch.Add(time.Hour)
	err := Unpack(t.Context(), root, "/made/deep", bytes.NewReader(makeTar(t, f)), Options{Owner: &Owner{UID: 5, GID: 6}, Mode: &mode, Epoch: &epoch})
	if err != nil {
		t.Fatal(err)
	}
	for p, perm := range map[string]uint32{"made": 0o755, "made/deep": 0o755, "made/deep/f": 0o4711} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, p), &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != perm || st.Mtim.Sec != epoch.Unix() {
			t.Errorf("%s: %+v", p, st)
		}
	}
}

func TestIsArchive(t *testing.T) {
	plain := makeTar(t, reg("f", strings.Repeat("some text\n", 10000)))
	var gz, zs bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(plain)
	w.Close()
	zw, _ := zstd.NewWriter(&zs)
	zw.Write(plain)
	zw.Close()
	var text bytes.Buffer
	w = gzip.NewWriter(&text)
	io.WriteString(w, strings.Repeat("no archive at all\n", 10000))
	w.Close()
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"plain": {plain, true}, "gzip": {gz.Bytes(), true}, "zstd": {zs.Bytes(), true},
		"xz":           {[]byte("\xfd7zXZ\x00more"), true},
		"text":         {[]byte(strings.Repeat("just a text\n", 100)), false},
		"gzip of text": {text.Bytes(), false}, "empty": {nil, false}, "zeros": {make([]byte, 1024), false},
		"bad gzip": {[]byte("\x1f\x8b\x08nonsense"), false},
	} {
		if got := IsArchive(c.data); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	err := Unpack(t.Context(), t.TempDir(), "/", bytes.NewReader([]byte("\xfd7zXZ\x00more")), Options{})
	if err == nil || !strings.Contains(err.Error(), "xz") {
		t.Errorf("xz: %v", err)
	}
}

func TestUnpackTruncated(t *testing.T) {
	data := makeTar(t, reg("f", strings.Repeat("x", 10000)))
	if err := Unpack(t.Context(), t.TempDir(), "/", bytes.NewReader(data[:5000]), Options{}); err == nil {
		t.Error("a cut-off archive was unpacked")
	}
}
