package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// putManifest gives a registry a manifest as it is.
func putManifest(t *testing.T, reg *testRegistry, name, mediaType string, doc any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, reg.URL+"/v2/app/manifests/"+name, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("put %s: %s", name, resp.Status)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

// An image whose configuration has no type, or one that tells nothing, is an image if its
// content is one, and stays as it is.
func TestUntoldConfig(t *testing.T) {
	reg, a, img, _ := pushed(t)
	for _, mediaType := range []string{"", "application/octet-stream"} {
		m := manifestOf(t, a, img)
		m.Config.MediaType = mediaType
		want := putManifest(t, reg, "old", m.MediaType, m)
		b := newTestClient(t, quick)
		got := mustPull(t, b, reg.host+"/app:old")
		sameImage(t, a, img, b, got)
		if desc := mustPush(t, b, reg.host+"/again", got); desc.Digest != want.Digest {
			t.Errorf("%q: pushed as %s, want %s", mediaType, desc.Digest, want.Digest)
		}
		src, err := b.Source(reg.host + "/app:old")
		if err != nil {
			t.Fatal(err)
		}
		dst := newTestClient(t, quick).StoreDestination()
		if _, err := Copy(t.Context(), dst, src, CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		if x, err := dst.Result(t.Context(), "copy"); err != nil || x.Images[0].ID != img.ID {
			t.Errorf("%q: copied as %+v, %v", mediaType, x, err)
		}
		m.Layers = m.Layers[1:]
		putManifest(t, reg, "artifact", m.MediaType, m)
		if _, err := b.Resolve(t.Context(), reg.host+"/app:artifact", amd64); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: what is no image: %v", mediaType, err)
		}
	}
}

// manifestOf is the manifest that an image was pushed with.
func manifestOf(t *testing.T, c *Client, img *Image) ocispec.Manifest {
	t.Helper()
	_, raw, err := c.Complete(t.Context(), img)
	var m ocispec.Manifest
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Where an index does not tell the platforms of its images their configurations do, and
// none is taken for what it is not.
func TestUntoldPlatforms(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	a := newTestClient(t, quick)
	x := testIndex(t, a)
	other := onPlatform(t, testImage(t, a, "three", 10), armv7)
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	nested := index
	for i, img := range append([]*Image{other}, x.Images...) {
		desc := mustPush(t, a, reg.host+"/app:one", img)
		to := &index
		if i == 2 {
			to = &nested // arm64's
		}
		to.Manifests = append(to.Manifests, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
	}
	gone := mustPush(t, a, reg.host+"/app:gone", onPlatform(t, x.Images[0], ocispec.Platform{OS: "linux", Architecture: "mips"}))
	index.Manifests = append(index.Manifests, putManifest(t, reg, "nested", ocispec.MediaTypeImageIndex, nested),
		ocispec.Descriptor{MediaType: gone.MediaType, Digest: gone.Digest, Size: gone.Size})
	putManifest(t, reg, "untold", ocispec.MediaTypeImageIndex, index)
	reg.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !strings.HasSuffix(r.URL.Path, gone.Digest.String()) {
			return false
		}
		http.NotFound(w, r)
		return true
	})
	b := newTestClient(t, quick)
	for p, want := range map[*ocispec.Platform]*Image{&amd64: x.Images[0], &arm64: x.Images[1], &armv7: other} {
		got, err := b.Pull(t.Context(), reg.host+"/app:untold", *p)
		if err != nil || got.ID != want.ID {
			t.Errorf("%s: %v, %v; want %s", p.Architecture, got, err, want.ID)
		}
	}
	_, err := b.Resolve(t.Context(), reg.host+"/app:untold", ocispec.Platform{OS: "linux", Architecture: "s390x"})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a platform that it lacks: %v", err)
	}
	all, err := b.PullIndex(t.Context(), reg.host+"/app:untold", nil)
	if err != nil || len(all.Images) != 3 {
		t.Errorf("all platforms: %+v, %v", all, err)
	}
	src, err := b.Source(reg.host + "/app:untold")
	if err != nil {
		t.Fatal(err)
	}
	dst := newTestClient(t, quick).StoreDestination()
	if _, err := Copy(t.Context(), dst, src, CopyOptions{Platforms: []ocispec.Platform{amd64}}); err != nil {
		t.Fatal(err)
	}
	if got, err := dst.Result(t.Context(), "copy"); err != nil || got.Images[0].ID != x.Images[0].ID {
		t.Errorf("copied %+v, %v", got, err)
	}
}
