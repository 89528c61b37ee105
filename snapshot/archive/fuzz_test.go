package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// FuzzUnpack extracts any bytes, as ADD does with what a context or a server holds:
// an error or files below the root, and nothing elsewhere.
func FuzzUnpack(f *testing.F) {
	for _, hs := range [][]tar.Header{
		{reg("a/b", "x"), symlink("l", "a"), reg("l/c", "y")},
		{reg("../evil", "x"), symlink("up", ".."), reg("up/evil", "x")},
		{symlink("l", "/"), reg("l/evil", "x"), {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/evil"}},
		{{Name: "d", Typeflag: tar.TypeDir, Mode: 0o700}, {Name: "p", Typeflag: tar.TypeFifo}, reg("d", "file")},
		{{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "path": "../../evil"}}},
	} {
		data := makeTar(f, hs...)
		f.Add(data)
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := w.Write(data); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(z.Bytes())
		f.Add(data[:len(data)/3])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		root := filepath.Join(base, "in", "root")
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = Unpack(t.Context(), root, "/dest", bytes.NewReader(data), Options{})
		err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
			if p == root {
				return fs.SkipDir
			}
			if p != base && p != filepath.Dir(root) {
				t.Errorf("something was written outside of the root: %s", p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
