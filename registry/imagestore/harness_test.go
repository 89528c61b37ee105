package imagestore

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/assemble"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/reference"
	"layered.build/builder/snapshot"
)

var day = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	armv7 = ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

// open makes an empty store.
func open(t *testing.T) *Store {
	t.Helper()
	layers, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layers.Close() })
	s, err := Open(layers)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testTar is a layer with one file.
func testTar(t *testing.T, name string, size int) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size), ModTime: day, Uid: os.Getuid(), Gid: os.Getgid()}
	if err := tw.WriteHeader(hdr); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// testImage makes an image with one layer for each size, and stores it under a name.
func testImage(t *testing.T, s *Store, name string, sizes ...int) *image.Image {
	t.Helper()
	var cfg image.Config
	cfg.Platform = amd64
	epoch := day
	in := assemble.Input{Config: cfg, Epoch: &epoch}
	for i, size := range sizes {
		l, err := s.layers.Import(t.Context(), in.Stack, "", bytes.NewReader(testTar(t, fmt.Sprint(name, i), size)))
		if err != nil {
			t.Fatal(err)
		}
		in.Stack = append(in.Stack[:i:i], l)
		in.Steps = append(in.Steps, assemble.Step{CreatedBy: fmt.Sprintf("COPY %d /", i), Stack: in.Stack, Config: cfg})
	}
	img, err := assemble.Image(in)
	if err != nil {
		t.Fatal(err)
	}
	if img.V1, err = assemble.V1Records(in, s.PutV1); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), img, name); err != nil {
		t.Fatal(err)
	}
	ref, err := reference.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	img.Names = []string{ref.String()}
	return img
}

// onPlatform is an image as it would be for another platform.
func onPlatform(t *testing.T, img *image.Image, p ocispec.Platform) *image.Image {
	t.Helper()
	cfg := img.Config
	cfg.Platform, cfg.Author = p, "another"
	out, err := image.New(cfg, img.Stack)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func testIndex(t *testing.T, s *Store) *image.Index {
	t.Helper()
	return &image.Index{Images: []*image.Image{
		onPlatform(t, testImage(t, s, "one", 3000), amd64), onPlatform(t, testImage(t, s, "two", 4000, 5000), arm64),
	}}
}
