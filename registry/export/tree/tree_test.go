package tree_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/export/exporttest"
	"layered.build/builder/registry/export/tree"
)

// twoPlatforms are trees of which each has a file of its own, and perhaps one in common.
func twoPlatforms(t *testing.T, files ...string) []tree.Tree {
	t.Helper()
	c := exporttest.NewClient(t)
	var out []tree.Tree
	for i, arch := range []string{"amd64", "arm64"} {
		img := exporttest.NewImage(t, c, files[i])
		files, err := c.Store().Tree(t.Context(), img.Stack)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tree.Tree{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Tree: files})
	}
	return out
}

func below(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, _ fs.DirEntry, err error) error {
		if p != "." {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWriteDir(t *testing.T) {
	epoch := time.Unix(12345, 0)
	over := tree.Set{Trees: twoPlatforms(t, "a", "b"), Epoch: &epoch}
	split := tree.Set{Trees: over.Trees, Split: true}
	dir := filepath.Join(t.TempDir(), "out")
	write := func(s tree.Set, remove bool, want ...string) {
		t.Helper()
		if err := s.WriteDir(t.Context(), dir, remove); err != nil {
			t.Fatal(err)
		}
		if got := below(t, dir); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	write(over, false, "a", "b")
	if fi, err := os.Stat(filepath.Join(dir, "a")); err != nil || !fi.ModTime().Equal(epoch) {
		t.Errorf("%v, %v", fi.ModTime(), err)
	}
	write(split, false, "a", "b", "linux_amd64", "linux_amd64/a", "linux_arm64", "linux_arm64/b")
	if err := os.WriteFile(filepath.Join(dir, "linux_arm64", "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	write(split, true, "linux_amd64", "linux_amd64/a", "linux_arm64", "linux_arm64/b")
	write(over, true, "a", "b")
}

func TestWriteTar(t *testing.T) {
	s := tree.Set{Trees: twoPlatforms(t, "a", "b")}
	for split, want := range map[bool][]string{false: {"a", "b"}, true: {"linux_amd64/a", "linux_arm64/b"}} {
		s.Split = split
		var buf bytes.Buffer
		if err := s.WriteTar(t.Context(), &buf); err != nil {
			t.Fatal(err)
		}
		got := exporttest.Entries(t, buf.Bytes())
		for _, name := range want {
			if len(got[name]) != 1000 {
				t.Errorf("split %t: %s has %d bytes", split, name, len(got[name]))
			}
		}
	}
}

// TestOverlap: platforms that have the same file are not laid over each other.
func TestOverlap(t *testing.T) {
	s := tree.Set{Trees: twoPlatforms(t, "a", "a")}
	want := "both linux/amd64 and linux/arm64 have a"
	if err := s.WriteTar(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("tar: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := s.WriteDir(t.Context(), dir, false); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("directory: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory was made")
	}
	s.Split = true
	if err := s.WriteDir(t.Context(), dir, false); err != nil {
		t.Error(err)
	}
}
