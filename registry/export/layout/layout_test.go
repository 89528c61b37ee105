package layout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/exporttest"
	"layered.build/builder/registry/image"
)

func TestOCIRoundTrip(t *testing.T) {
	a := exporttest.NewClient(t)
	one, two := exporttest.NewImage(t, a, "base", "one"), exporttest.NewImage(t, a, "base", "two")
	items := []Item{{Image: one, Names: []string{"app:1", "example.com/app:1"}}, {Image: two}}
	var buf, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&buf, &again} {
		if err := WriteOCI(t.Context(), w, a, items...); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(buf.Bytes(), again.Bytes()) {
		t.Error("written twice, the bytes differ")
	}
	files := exporttest.Entries(t, buf.Bytes())
	var index ocispec.Index
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 3 || index.Manifests[0].Digest != index.Manifests[1].Digest ||
		index.Manifests[0].Annotations["io.containerd.image.name"] != "docker.io/library/app:1" ||
		index.Manifests[1].Annotations["org.opencontainers.image.ref.name"] != "1" ||
		index.Manifests[2].Annotations["io.containerd.image.name"] != "" {
		t.Errorf("index: %s", files["index.json"])
	}
	// 3 layers, of which one is shared, 2 configurations, 2 manifests.
	blobs := 0
	for name, data := range files {
		if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && hex != "" {
			blobs++
			if digest.FromBytes(data).Encoded() != hex {
				t.Errorf("%s has other content", name)
			}
		}
	}
	if blobs != 7 {
		t.Errorf("%d blobs, want 7", blobs)
	}

	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{"plain": buf.Bytes(), "gzip": zipped.Bytes()} {
		t.Run(name, func(t *testing.T) {
			b := exporttest.NewClient(t)
			got, err := Load(t.Context(), bytes.NewReader(archive), b)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || got[0].ID != one.ID || got[1].ID != two.ID || got[0].Manifest.Digest != index.Manifests[0].Digest {
				t.Fatalf("%+v", got)
			}
			if !slices.Equal(exporttest.Diffs(t, b, got[0]), exporttest.Diffs(t, a, one)) || !slices.Equal(got[0].Names, []string{"docker.io/library/app:1", "example.com/app:1"}) {
				t.Errorf("%v", got[0])
			}
			local, err := b.Images().ResolveLocal("example.com/app:1")
			if err != nil {
				t.Fatal(err)
			}
			var back bytes.Buffer
			if err := WriteOCI(t.Context(), &back, b, Item{Image: local, Names: []string{"app:1", "example.com/app:1"}}, Item{Image: got[1]}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(back.Bytes(), buf.Bytes()) {
				t.Error("saved again, the bytes differ")
			}
		})
	}
}

func TestDockerRoundTrip(t *testing.T) {
	a := exporttest.NewClient(t)
	one, two := exporttest.NewImage(t, a, "base", "one"), exporttest.NewImage(t, a, "base", "two")
	var buf bytes.Buffer
	if err := WriteDocker(t.Context(), &buf, a, Item{Image: one, Names: []string{"app:1", "localhost:5000/x/app:2"}}, Item{Image: two}); err != nil {
		t.Fatal(err)
	}
	files := exporttest.Entries(t, buf.Bytes())
	var images []dockerImage
	if err := json.Unmarshal(files["manifest.json"], &images); err != nil {
		t.Fatal(err)
	}
	if len(images) != 2 || !slices.Equal(images[0].RepoTags, []string{"app:1", "localhost:5000/x/app:2"}) || images[0].Layers[0] != images[1].Layers[0] {
		t.Errorf("%s", files["manifest.json"])
	}
	for _, img := range images {
		if digest.FromBytes(files[img.Config]).Encoded()+".json" != img.Config {
			t.Errorf("%s has other content", img.Config)
		}
	}
	if digest.FromBytes(files[images[0].Layers[1]]) != digest.Digest(one.Stack[1].DiffID) {
		t.Error("the layer is not the uncompressed tar")
	}
	if !strings.Contains(string(files["repositories"]), `"localhost:5000/x/app":{"2":`) {
		t.Errorf("repositories: %s", files["repositories"])
	}
	b := exporttest.NewClient(t)
	got, err := Load(t.Context(), &buf, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].ID != one.ID || got[1].ID != two.ID || !slices.Equal(exporttest.Diffs(t, b, got[0]), exporttest.Diffs(t, a, one)) {
		t.Fatalf("%+v", got)
	}
	all, err := b.Store().Blobs().All()
	if err != nil || len(all) != 2 {
		t.Errorf("%d blobs left (%v), want the two configurations", len(all), err)
	}
}

// Newer dockers write one archive that is both: an OCI layout, and manifest.json
// whose layers are blobs of the layout.
func TestLoadDockerWithLayout(t *testing.T) {
	a := exporttest.NewClient(t)
	img := exporttest.NewImage(t, a, "base", "one")
	desc, raw, err := a.Complete(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	s := tarSink{tw}
	if err := writeOCI(t.Context(), s, a, []Item{{Image: img}}); err != nil {
		t.Fatal(err)
	}
	docker, err := json.Marshal([]dockerImage{{Config: blobPath(m.Config.Digest), RepoTags: []string{"app:9"}, Layers: []string{blobPath(m.Layers[0].Digest), blobPath(m.Layers[1].Digest)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(small(s, "manifest.json", docker), tw.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), &buf, exporttest.NewClient(t))
	if err != nil || len(got) != 1 || got[0].Manifest.Digest != desc.Digest || !slices.Equal(got[0].Names, []string{"docker.io/library/app:9"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOCIDir(t *testing.T) {
	a := exporttest.NewClient(t)
	dir := t.TempDir() + "/new"
	if err := writeOCIDir(t, dir, a, Item{Image: exporttest.NewImage(t, a, "x"), Names: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.AddFS(osDir(dir)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Load(t.Context(), &buf, exporttest.NewClient(t))
	if err != nil || len(got) != 1 || got[0].Names[0] != "docker.io/library/x:latest" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A folder is loaded as an archive of it would be; links may stand for files, and lead to
// nothing outside.
func TestLoadFolder(t *testing.T) {
	a := exporttest.NewClient(t)
	img := exporttest.NewImage(t, a, "x", "y")
	dir := t.TempDir() + "/layout"
	if err := writeOCIDir(t, dir, a, Item{Image: img, Names: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(dir, "index.json")
	if err := errors.Join(os.Rename(index, filepath.Join(dir, "real.json")), os.Symlink("real.json", index)); err != nil {
		t.Fatal(err)
	}
	b := exporttest.NewClient(t)
	got, err := LoadFolder(t.Context(), dir, b)
	if err != nil || len(got) != 1 || got[0].ID != img.ID || got[0].Names[0] != "docker.io/library/x:latest" {
		t.Fatalf("%+v, %v", got, err)
	}
	if !slices.Equal(exporttest.Diffs(t, b, got[0]), exporttest.Diffs(t, a, img)) {
		t.Error("the layers are others")
	}
	outside := filepath.Join(t.TempDir(), "index.json")
	if err := errors.Join(os.Rename(filepath.Join(dir, "real.json"), outside), os.Remove(index), os.Symlink(outside, index)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFolder(t.Context(), dir, exporttest.NewClient(t)); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a link that leads out: %v", err)
	}
	if _, err := LoadFolder(t.Context(), t.TempDir(), b); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("an empty folder: %v", err)
	}
}

// Of an index that does not tell platforms the image for this machine is loaded.
func TestLoadUntoldPlatforms(t *testing.T) {
	a := exporttest.NewClient(t)
	img := exporttest.NewImage(t, a, "mine")
	other := *img
	other.Config.Architecture, other.Config.Author = "s390x", "another"
	foreign, err := image.New(other.Config, img.Stack)
	if err != nil {
		t.Fatal(err)
	}
	x := &registry.Index{Images: []*registry.Image{foreign, img}}
	var buf bytes.Buffer
	if err := WriteOCI(t.Context(), &buf, a, Item{Index: x, Names: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range exporttest.Entries(t, buf.Bytes()) {
		if strings.HasSuffix(name, "/") {
			continue
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	var top, index ocispec.Index
	read := func(name string, v any) {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err = errors.Join(err, json.Unmarshal(raw, v)); err != nil {
			t.Fatal(err)
		}
	}
	read("index.json", &top)
	read(blobPath(top.Manifests[0].Digest), &index)
	for i := range index.Manifests {
		index.Manifests[i].Platform = nil
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	top.Manifests = top.Manifests[:1]
	top.Manifests[0].Digest, top.Manifests[0].Size = digest.FromBytes(raw), int64(len(raw))
	topRaw, err := json.Marshal(top)
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, blobPath(digest.FromBytes(raw))), raw, 0o644),
		os.WriteFile(filepath.Join(dir, "index.json"), topRaw, 0o644)); err != nil {
		t.Fatal(err)
	}
	got, err := LoadFolder(t.Context(), dir, exporttest.NewClient(t))
	if err != nil || len(got) != 1 || got[0].ID != img.ID {
		t.Errorf("%+v, %v; want %s", got, err, img.ID)
	}
}

func TestLoadRefuses(t *testing.T) {
	a := exporttest.NewClient(t)
	var good bytes.Buffer
	if err := WriteOCI(t.Context(), &good, a, Item{Image: exporttest.NewImage(t, a, "base", "one")}); err != nil {
		t.Fatal(err)
	}
	files := exporttest.Entries(t, good.Bytes())
	pack := func(change func(files map[string][]byte)) []byte {
		c := map[string][]byte{}
		for k, v := range files {
			c[k] = slices.Clone(v)
		}
		change(c)
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for name, data := range c {
			if strings.HasSuffix(name, "/") {
				continue
			}
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	blob := func(files map[string][]byte, part string) string {
		for name, data := range files {
			if strings.HasPrefix(name, "blobs/sha256/") && strings.Contains(string(data), part) {
				return name
			}
		}
		t.Fatalf("no blob with %q", part)
		return ""
	}
	for name, tc := range map[string]struct {
		archive []byte
		want    error
	}{
		"empty":          {nil, registry.ErrInvalid},
		"no archive":     {bytes.Repeat([]byte("text\n"), 200), registry.ErrInvalid},
		"text":           {[]byte("text"), registry.ErrInvalid},
		"gzip of text":   {[]byte("\x1f\x8btext"), registry.ErrInvalid},
		"cut off early":  {good.Bytes()[:good.Len()/2/512*512+50], registry.ErrInvalid},
		"cut off":        {good.Bytes()[:good.Len()/2/512*512+50], io.ErrUnexpectedEOF},
		"no index":       {pack(func(f map[string][]byte) { delete(f, "index.json") }), registry.ErrInvalid},
		"index no json":  {pack(func(f map[string][]byte) { f["index.json"] = []byte("x") }), registry.ErrInvalid},
		"blob missing":   {pack(func(f map[string][]byte) { delete(f, blob(f, `"rootfs"`)) }), registry.ErrNotFound},
		"blob damaged":   {pack(func(f map[string][]byte) { f[blob(f, `"rootfs"`)][5] ^= 1 }), registry.ErrBadDigest},
		"evil digest":    {pack(func(f map[string][]byte) { f["index.json"] = []byte(`{"manifests":[{"digest":"sha256:../../x"}]}`) }), registry.ErrInvalid},
		"docker no file": {pack(func(f map[string][]byte) { clear(f); f["manifest.json"] = []byte(`[{"Config":"../../etc/passwd"}]`) }), registry.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			b := exporttest.NewClient(t)
			_, err := Load(t.Context(), bytes.NewReader(tc.archive), b)
			if !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if infos, err := b.Images().List(); err != nil || len(infos) != 0 {
				t.Errorf("images after a failed load: %v, %v", infos, err)
			}
			if name == "cut off" || name == "blob damaged" || name == "empty" {
				if all, err := b.Store().Blobs().All(); err != nil || len(all) != 0 {
					t.Errorf("%d blobs left, %v", len(all), err)
				}
			}
		})
	}
	if _, err := Load(t.Context(), iotest{}, exporttest.NewClient(t)); errors.Is(err, registry.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "broken pipe") {
		t.Errorf("failing reader: %v", err)
	}
}
