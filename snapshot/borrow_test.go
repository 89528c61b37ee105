package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/snapshot"
)

// TestSameTarElsewhere: a tar that is here on other layers is not unpacked again,
// unless its directory depends on what lies below.
func TestSameTarElsewhere(t *testing.T) {
	needRoot(t)
	base := func(mode int64) *remote {
		d := ent(tar.TypeDir, "d/", "")
		d.Mode = mode
		return gz(makeTar(t, d, ent(tar.TypeReg, "d/old", "old")))
	}
	for name, c := range map[string]struct {
		es     []tarEntry
		shared bool
	}{
		"complete":  {[]tarEntry{ent(tar.TypeDir, "d/", ""), ent(tar.TypeReg, "d/f", "x"), ent(tar.TypeReg, "d/f", "y"), ent(tar.TypeLink, "d/g", "d/f")}, true},
		"directory": {[]tarEntry{ent(tar.TypeReg, "d/f", "x")}, false},
		"whiteout":  {[]tarEntry{ent(tar.TypeDir, "d/", ""), ent(tar.TypeReg, "d/.wh.old", "")}, false},
		"hard link": {[]tarEntry{ent(tar.TypeDir, "d/", ""), ent(tar.TypeLink, "d/g", "d/old")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			data := makeTar(t, c.es...)
			r := gz(data)
			one, two := addAll(t, s, base(0o700), r), addAll(t, s, base(0o711), r)
			for i, stack := range []snapshot.Stack{one, two} {
				if i == 1 && c.shared {
					// Neither the source nor the blob is needed.
					r.open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("gone") }
					if err := s.Blobs().Remove(r.lazy().Blob.Digest); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Materialize(t.Context(), stack); err != nil {
					t.Fatal(err)
				}
			}
			if sameManifest(t, s, one[1], two[1]) != c.shared {
				t.Errorf("shared: %v", !c.shared)
			}
			if one[1].ID == two[1].ID {
				t.Fatal("one layer only")
			}
			if err := s.Remove(t.Context(), one[1].ID); err != nil {
				t.Fatal(err)
			}
			if _, got := readTar(t, s, two[1]); !bytes.Equal(got, data) {
				t.Error("another tar")
			}
			if l, err := s.Layer(two[1].ID); err != nil || l.DiffID != two[1].DiffID || l.Content != two[1].Content {
				t.Errorf("layer %+v %v, was to be %+v", l, err, two[1])
			}
		})
	}
}

// sameManifest reports whether two layers share that file.
func sameManifest(t *testing.T, s *snapshot.Store, a, b snapshot.Layer) bool {
	t.Helper()
	var st [2]os.FileInfo
	for i, l := range []snapshot.Layer{a, b} {
		var err error
		if st[i], err = os.Stat(filepath.Join(s.Root(), "layers", string(l.ID), "manifest")); err != nil {
			t.Fatal(err)
		}
	}
	return os.SameFile(st[0], st[1])
}
