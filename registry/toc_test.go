package registry

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/snapshot"
)

// TestTableOfContents makes blobs with a table of contents, reads single files of
// them by it, and pulls them like any other image.
func TestTableOfContents(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give the files of layers to 0:0")
	}
	isolate(t)
	for _, kind := range []string{compression.EStargz, compression.ZstdChunked} {
		t.Run(kind, func(t *testing.T) {
			reg := newTestRegistry(t)
			maker := newTestClient(t, quick)
			plain := madeImage(t, maker)
			img, err := maker.Shape(t.Context(), plain, Form{Compression: Compression{Type: kind}})
			if err != nil {
				t.Fatal(err)
			}
			if same := img.ID == plain.ID; same != (kind == compression.ZstdChunked) {
				t.Errorf("the image is %s, without a table of contents %s", img.ID, plain.ID)
			}
			again, err := maker.Shape(t.Context(), plain, Form{Compression: Compression{Type: kind}})
			if err != nil || again.Manifest.Digest != img.Manifest.Digest {
				t.Errorf("another time it is %+v, %v", again.Manifest, err)
			}
			kept, err := img.KeptLayers()
			if err != nil {
				t.Fatal(err)
			}
			for _, desc := range kept {
				f, err := maker.store.Blobs().Open(desc.Digest)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				r, err := estargz.Open(io.NewSectionReader(f.(io.ReaderAt), 0, desc.Size), estargz.WithDecompressors(new(zstdchunked.Decompressor)))
				if err != nil {
					t.Fatalf("%+v: %v", desc, err)
				}
				if _, err := r.VerifyTOC(digest.Digest(desc.Annotations[estargz.TOCJSONDigestAnnotation])); err != nil {
					t.Errorf("%+v: %v", desc, err)
				}
			}
			mustPush(t, maker, reg.host+"/app", img)
			b := newTestClient(t, quick)
			got := mustPull(t, b, reg.host+"/app")
			if got.ID != img.ID || got.Manifest.Digest != img.Manifest.Digest {
				t.Errorf("pulled %s, pushed %s", got.ID, img.ID)
			}
			for i, l := range got.Stack { // the layers hold what they held without
				have, want := listing(t, b, l), listing(t, maker, plain.Stack[i])
				if have != want {
					t.Errorf("layer %d holds\n%s, want\n%s", i, have, want)
				}
			}
			to := newTestRegistry(t)
			if desc := mustPush(t, b, to.host+"/app", got); desc.Digest != img.Manifest.Digest {
				t.Errorf("pushed on as %s, not as %s", desc.Digest, img.Manifest.Digest)
			}
			// The maker's store can take the image in, too.
			if err := maker.store.Materialize(t.Context(), img.Stack); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// listing is a layer's files with their contents' digests.
func listing(t *testing.T, c *Client, l snapshot.Layer) string {
	t.Helper()
	tree, err := c.store.Tree(t.Context(), snapshot.Stack{l})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
		b.WriteString(e.Path + " " + string(e.Type) + " " + e.Digest.String() + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestForeignTableOfContents pulls what other tools make: their table of contents and
// landmark are files of the tar, and stay what they are.
func TestForeignTableOfContents(t *testing.T) {
	isolate(t)
	maker := newTestClient(t, quick)
	plain := testTar(t, "file", 300_000)
	built, err := estargz.Build(io.NewSectionReader(bytes.NewReader(plain), 0, int64(len(plain))), estargz.WithPrioritizedFiles([]string{"d/file"}))
	if err != nil {
		t.Fatal(err)
	}
	blob, err := io.ReadAll(built)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) ocispec.Descriptor {
		t.Helper()
		d, err := maker.store.Blobs().Put(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		return ocispec.Descriptor{Digest: d, Size: int64(len(data))}
	}
	layer := put(blob)
	layer.MediaType = ocispec.MediaTypeImageLayerGzip
	layer.Annotations = map[string]string{estargz.TOCJSONDigestAnnotation: built.TOCDigest().String()}
	cfg := testConfig()
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{built.DiffID()}}
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	desc, manifest, err := image.NewManifest(put(raw), []ocispec.Descriptor{layer}, Form{})
	if err != nil {
		t.Fatal(err)
	}
	put(manifest)
	reg, other := newTestRegistry(t), newTestRegistry(t)
	dst, err := maker.Destination(reg.host+"/app", &storeSource{maker, desc}, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Copy(t.Context(), dst, &storeSource{maker, desc}, CopyOptions{}); err != nil || got.Digest != desc.Digest {
		t.Fatalf("%+v, %v", got, err)
	}
	b := newTestClient(t, quick)
	img := mustPull(t, b, reg.host+"/app")
	files := listing(t, b, img.Stack[0])
	for _, name := range []string{"stargz.index.json", ".prefetch.landmark", "d/file"} {
		if !strings.Contains(files, name+" f") {
			t.Errorf("no %s in\n%s", name, files)
		}
	}
	if got := mustPush(t, b, other.host+"/again", img); got.Digest != desc.Digest {
		t.Errorf("pushed on as %s, not as %s", got.Digest, desc.Digest)
	}
	for _, want := range tarDigests(t, b, img.Stack) {
		if want != built.DiffID() {
			t.Errorf("the tar is %s, not %s", want, built.DiffID())
		}
	}
}

// TestForeignLayers builds on a layer that must not be distributed, which its URL
// leads to.
func TestForeignLayers(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	maker := newTestClient(t, quick)
	img := testImage(t, maker, "base", 50_000)
	mustPush(t, maker, reg.host+"/elsewhere", img)
	blob, err := maker.LayerBlob(t.Context(), img.Stack)
	if err != nil {
		t.Fatal(err)
	}
	blob.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	blob.URLs = []string{reg.URL + "/v2/elsewhere/blobs/" + blob.Digest.String()}
	for _, foreign := range []bool{false, true} {
		c := newTestClient(t, quick)
		l, err := c.store.AddLazy(nil, c.lazy(img.Stack[0].DiffID, blob))
		if err != nil {
			t.Fatal(err)
		}
		base := &Image{ID: img.ID, RawConfig: img.RawConfig, Config: img.Config, Stack: snapshot.Stack{l}}
		if foreign {
			if base, err = c.Shape(t.Context(), base, Form{Foreign: true}); err != nil {
				t.Fatal(err)
			}
		}
		to := newTestRegistry(t)
		name := to.host + "/app"
		mustPush(t, c, name, base)
		if sent := count(to.take(), "PATCH", ""); sent != map[bool]int{true: 1, false: 2}[foreign] { // and the configuration
			t.Errorf("foreign=%v: %d blobs sent", foreign, sent)
		}
		b := newTestClient(t, quick)
		r, err := b.Resolve(t.Context(), name, amd64)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Layers[0]; mediatype.IsForeign(got) != foreign || !foreign && got.MediaType != ocispec.MediaTypeImageLayerGzip {
			t.Errorf("foreign=%v: %+v", foreign, got)
		}
		sameImage(t, maker, img, b, mustPull(t, b, name))
	}
}
