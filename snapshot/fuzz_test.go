package snapshot_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/snapshot"
)

// FuzzImport: whatever a tar says, nothing is written outside the layer, and a tar
// that is accepted is rebuilt bit for bit and has a tree that can be read.
func FuzzImport(f *testing.F) {
	needRoot(f)
	f.Add(makeTar(f, ent(tar.TypeReg, "a/b", "x"), ent(tar.TypeLink, "c", "a/b"), ent(tar.TypeSymlink, "s", "/a"), ent(tar.TypeReg, "s/d", "y")))
	f.Add(makeTar(f, ent(tar.TypeReg, ".wh.x", ""), ent(tar.TypeDir, "d/", ""), ent(tar.TypeReg, "d/.wh..wh..opq", ""), ent(tar.TypeReg, "d", "z")))
	f.Add(makeTar(f, ent(tar.TypeSymlink, "l", "../../.."), ent(tar.TypeReg, "l/evil", "x"), ent(tar.TypeReg, "../evil", "x")))
	outer := f.TempDir()
	root := filepath.Join(outer, "store")
	s, err := snapshot.Open(root, snapshot.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	base, err := s.Import(f.Context(), nil, "", bytes.NewReader(makeTar(f, ent(tar.TypeDir, "d/", ""), ent(tar.TypeReg, "d/low", "low"), ent(tar.TypeSymlink, "up", "/d"))))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		l, err := s.Import(t.Context(), snapshot.Stack{base}, "", bytes.NewReader(data))
		if names, _ := os.ReadDir(outer); len(names) != 1 {
			t.Fatalf("written outside: %v", names)
		}
		if names, _ := os.ReadDir(filepath.Join(root, "tmp")); len(names) != 0 {
			t.Fatalf("left in tmp: %v", names)
		}
		if err != nil {
			return
		}
		defer s.Remove(t.Context(), l.ID)
		r, err := s.Tar(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		tree, err := s.Tree(t.Context(), snapshot.Stack{base, l})
		if err != nil {
			t.Fatal(err)
		}
		err = snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
			if e.Type == snapshot.TypeFile {
				f, err := tree.Open(e.Path)
				if err != nil {
					return err
				}
				n, err := io.Copy(io.Discard, f)
				if err == nil && n != e.Size {
					t.Errorf("%s has %d bytes, the tree says %d", e.Path, n, e.Size)
				}
				return f.Close()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
