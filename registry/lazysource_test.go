package registry

import (
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestLazySource describes an image of a registry without fetching its layers, then
// one of them.
func TestLazySource(t *testing.T) {
	reg := newTestRegistry(t)
	first := newTestClient(t, quick)
	ref := reg.host + "/some/base:1"
	pushed := mustPush(t, first, ref, testImage(t, first, ref, 20_000, 30_000))

	c := newTestClient(t, quick)
	r, err := c.Resolve(t.Context(), ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	stack, err := c.Layers(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	img := &Image{ID: digest.FromBytes(r.RawConfig), RawConfig: r.RawConfig, Config: r.Config, Stack: stack}
	reg.take()
	src, err := c.LazySource(t.Context(), &Index{Images: []*Image{img}})
	if err != nil {
		t.Fatal(err)
	}
	raw, desc, err := src.Manifest(t.Context(), ocispec.Descriptor{})
	if err != nil || desc.Digest != pushed.Digest || digest.FromBytes(raw) != desc.Digest {
		t.Errorf("manifest %v, %v, want %s", desc, err, pushed.Digest)
	}
	if n := len(reg.take()); n > 0 {
		t.Errorf("%d requests before a blob was opened", n)
	}
	const offset = 100
	blob := r.Layers[1]
	data := readAll(t, src, blob, offset)
	if int64(len(data)) != blob.Size-offset {
		t.Errorf("%d bytes after %d of %d", len(data), offset, blob.Size)
	}
	if n := count(reg.take(), "GET", "/blobs/"); n != 1 {
		t.Errorf("%d blobs were fetched for one", n)
	}
	if got := readAll(t, src, ocispec.Descriptor{Digest: img.ID}, 0); string(got) != string(r.RawConfig) {
		t.Errorf("configuration %q", got)
	}
	if refs := src.Origins(blob.Digest); len(refs) != 1 || refs[0].Repository() != reg.host+"/some/base" {
		t.Errorf("origins %v", refs)
	}
	if refs := src.Origins(img.ID); refs != nil {
		t.Errorf("origins %v of a configuration", refs)
	}
	if _, err := src.Open(t.Context(), ocispec.Descriptor{Digest: digest.FromString("nobody has it")}, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v for a blob of nobody", err)
	}
}

func readAll(t *testing.T, src Source, desc ocispec.Descriptor, offset int64) []byte {
	t.Helper()
	r, err := src.Open(t.Context(), desc, offset)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestLazySourceLikeStoreSource proves that both give the same manifests, for one
// platform and for several.
func TestLazySourceLikeStoreSource(t *testing.T) {
	c := newTestClient(t, quick)
	a, b := testImage(t, c, "a:1", 1000, 2000), testImage(t, c, "b:1", 1000)
	for _, images := range [][]*Image{{a}, {a, b}} {
		lazy, err := c.LazySource(t.Context(), &Index{Images: images})
		if err != nil {
			t.Fatal(err)
		}
		full, err := c.StoreSource(t.Context(), &Index{Images: images})
		if err != nil {
			t.Fatal(err)
		}
		lraw, ldesc, lerr := lazy.Manifest(t.Context(), ocispec.Descriptor{})
		fraw, fdesc, ferr := full.Manifest(t.Context(), ocispec.Descriptor{})
		if lerr != nil || ferr != nil || ldesc.Digest != fdesc.Digest || string(lraw) != string(fraw) {
			t.Errorf("%d images: %v %v %s, want %v %v %s", len(images), ldesc, lerr, lraw, fdesc, ferr, fraw)
		}
	}
}
