// Package exporttest makes images and looks into archives, for the tests of what exports
// and imports images.
package exporttest

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// NewClient makes a client with a store of its own, which ends with the test.
func NewClient(t *testing.T) *registry.Client {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	store, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	images, err := registry.OpenImages(store)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(store, images, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func layerTar(t *testing.T, name string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	data := strings.Repeat(name, 1000)
	owner := tar.Header{Mode: 0o755, ModTime: time.Unix(99, 0), Uid: os.Getuid(), Gid: os.Getgid()} // so that no one has to be root
	root, file := owner, owner
	root.Typeflag, root.Name = tar.TypeDir, "./"
	file.Typeflag, file.Name, file.Size = tar.TypeReg, name, int64(len(data))
	for _, h := range []*tar.Header{&root, &file} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(tw, data); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// NewImage makes an image for linux/amd64 whose layers have one file each.
func NewImage(t *testing.T, c *registry.Client, files ...string) *registry.Image {
	t.Helper()
	var cfg registry.ImageConfig
	cfg.OS, cfg.Architecture = "linux", "amd64"
	epoch := time.Unix(1_700_000_000, 0).UTC()
	in := registry.AssembleInput{Config: cfg, Epoch: &epoch}
	for i, f := range files {
		l, err := c.Store().Import(t.Context(), in.Stack, "", bytes.NewReader(layerTar(t, f)))
		if err != nil {
			t.Fatal(err)
		}
		in.Stack = append(in.Stack[:i:i], l)
		in.Steps = append(in.Steps, registry.AssembleStep{CreatedBy: "COPY " + f, Stack: in.Stack, Config: cfg})
	}
	img, err := registry.Assemble(in)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Entries are the contents of a tar by name.
func Entries(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

// Diffs are the digests of the tars that the store has of an image's layers.
func Diffs(t *testing.T, c *registry.Client, img *registry.Image) []digest.Digest {
	t.Helper()
	var out []digest.Digest
	for _, l := range img.Stack {
		r, err := c.Store().Tar(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		d, err := digest.FromReader(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}
