package oci

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// filesOf lists what a folder holds.
func filesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// A folder that became a tar and a folder again is the same cache, with its scopes.
func TestTar(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	place, err := OpenFolder(from, true)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("blob")
	b := sharedtest.NewBlob(data)
	if err := place.Store(t.Context(), b, sharedtest.Content(data)); err != nil {
		t.Fatal(err)
	}
	scopes := []string{"", "main", "pull/7 and more"}
	for _, scope := range scopes {
		if err := place.Replace(t.Context(), scope, []byte("of "+scope), []shared.Blob{b}, ""); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := WriteTar(&out, from); err != nil {
		t.Fatal(err)
	}
	if err := ReadTar(&out, to); err != nil {
		t.Fatal(err)
	}
	if place, err = OpenFolder(to, false); err != nil {
		t.Fatal(err)
	}
	if got, err := place.Scopes(t.Context()); err != nil || !slices.Equal(got, scopes) {
		t.Errorf("scopes %q, %v", got, err)
	}
	for _, scope := range scopes {
		if got, _, err := place.Index(t.Context(), scope); err != nil || string(got) != "of "+scope {
			t.Errorf("%q: %q, %v", scope, got, err)
		}
	}
	if missing, err := place.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) > 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
}

// Nothing of a tar that is no part of a layout becomes a file.
func TestHostileTar(t *testing.T) {
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	hash := strings.Repeat("ab", 32)
	for _, h := range []tar.Header{
		{Name: "../outside"}, {Name: "/outside"}, {Name: "blobs/sha256/../../../outside"}, {Name: "blobs/sha256/" + hash + "/x"},
		{Name: "blobs/sha256", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "blobs/sha256/" + strings.Repeat("cd", 32), Typeflag: tar.TypeSymlink, Linkname: "../../../outside"},
		{Name: "index.json", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, {Name: "builder.lock"}, {Name: "./blobs/sha256/" + hash},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := ReadTar(&in, filepath.Join(dir, "to")); err != nil {
		t.Fatal(err)
	}
	if got, want := filesOf(t, dir), []string{"to/blobs/sha256/" + hash}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	in.Reset()
	w = tar.NewWriter(&in)
	if err := w.WriteHeader(&tar.Header{Name: "index.json", Size: maxSmall + 1}); err != nil {
		t.Fatal(err)
	}
	if err := ReadTar(&in, filepath.Join(dir, "large")); err == nil {
		t.Error("an index.json of any size is read")
	}
}
