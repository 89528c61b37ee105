package layout

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/exporttest"
)

// TestTake takes an image for one of two platforms, nested in an index, and does not read
// it again.
func TestTake(t *testing.T) {
	a := exporttest.NewClient(t)
	amd := exporttest.NewImage(t, a, "base", "one")
	arm := onArm(t, exporttest.NewImage(t, a, "base", "two"))
	dir := t.TempDir()
	x := &registry.Index{Images: []*registry.Image{amd, arm}}
	if err := writeOCIDir(t, dir, a, Item{Index: x, Names: []string{"app:1"}}); err != nil {
		t.Fatal(err)
	}
	b := exporttest.NewClient(t)
	take := func(ref string, p ocispec.Platform) (*registry.Image, ocispec.Descriptor, error) {
		l, err := OpenLayout(dir, ref)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Take(t.Context(), b, p)
	}
	linux := func(arch string) ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: arch} }
	got, desc, err := take("1", linux("arm64"))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != arm.ID || !slices.Equal(exporttest.Diffs(t, b, got), exporttest.Diffs(t, a, arm)) {
		t.Errorf("took %s, want %s", got.ID, arm.ID)
	}
	if got.Manifest == nil || got.Manifest.Digest != desc.Digest {
		t.Errorf("manifest %+v, want %s", got.Manifest, desc.Digest)
	}
	if _, err := b.Images().ResolveLocal("app:1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("it has a name: %v", err)
	}
	if _, _, err := take("1", linux("s390x")); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("another platform: %v", err)
	}
	// A manifest that index.json does not list is found by its digest, for any platform.
	if got, _, err := take(desc.Digest.String(), linux("amd64")); err != nil || got.ID != arm.ID {
		t.Errorf("by digest: %+v, %v", got, err)
	}
	for _, d := range layerBlobs(t, dir, desc.Digest) {
		if err := os.Remove(filepath.Join(dir, blobPath(d))); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := take("1", linux("arm64")); err != nil || got.ID != arm.ID {
		t.Errorf("read again: %+v, %v", got, err)
	}
	b = exporttest.NewClient(t)
	if _, _, err := take("1", linux("arm64")); err == nil {
		t.Error("an image without its layers was taken")
	}
}

// layerBlobs are the layers of a manifest of a layout.
func layerBlobs(t *testing.T, dir string, manifest digest.Digest) []digest.Digest {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, blobPath(manifest)))
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	var out []digest.Digest
	for _, l := range m.Layers {
		out = append(out, l.Digest)
	}
	return out
}
