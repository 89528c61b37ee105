package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// onPlatform is an image as it would be for another platform.
func onPlatform(t *testing.T, img *Image, p ocispec.Platform) *Image {
	t.Helper()
	cfg := img.Config
	cfg.Platform, cfg.Author = p, "another"
	out, err := image.New(cfg, img.Stack)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var (
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	armv7 = ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

func testIndex(t *testing.T, c *Client) *Index {
	t.Helper()
	return &Index{Images: []*Image{
		onPlatform(t, testImage(t, c, "one", 3000), amd64), onPlatform(t, testImage(t, c, "two", 4000, 5000), arm64),
	}}
}

func TestIndexPushPull(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	a := newTestClient(t, quick)
	x := testIndex(t, a)
	x.Annotations = map[string]string{"k": "v"}
	x.MemberAnnotations = []map[string]string{nil, {"m": "arm"}}
	name := reg.host + "/team/multi:1"
	if err := a.images.PutIndex(t.Context(), x, name); err != nil {
		t.Fatal(err)
	}
	desc, err := a.PushIndex(t.Context(), name, x, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	local, err := a.images.ResolveIndex(name)
	if err != nil || local.Descriptor == nil || local.Descriptor.Digest != desc.Digest {
		t.Errorf("the store does not know what was pushed: %+v, %v", local, err)
	}
	reg.take()
	if again, err := a.PushIndex(t.Context(), name, x, PushOptions{}); err != nil || again.Digest != desc.Digest {
		t.Errorf("pushed again: %s, want %s (%v)", again.Digest, desc.Digest, err)
	}
	if reqs := reg.take(); count(reqs, "PATCH", "") != 0 || count(reqs, "PUT", "/blobs/") != 0 {
		t.Errorf("pushed again, blobs are sent:\n%s", strings.Join(reqs, "\n"))
	}
	for p, want := range map[*ocispec.Platform]*Image{&amd64: x.Images[0], &arm64: x.Images[1]} {
		b := newTestClient(t, quick)
		got, err := b.Pull(t.Context(), name, *p)
		if err != nil {
			t.Fatal(err)
		}
		sameImage(t, a, want, b, got)
	}
	for _, wanted := range [][]ocispec.Platform{nil, {amd64, arm64}} {
		b := newTestClient(t, quick)
		got, err := b.PullIndex(t.Context(), name, wanted)
		if err != nil {
			t.Fatal(err)
		}
		if got.Descriptor == nil || got.Descriptor.Digest != desc.Digest || len(got.Images) != 2 {
			t.Errorf("%+v, want %s", got, desc.Digest)
		}
		var index ocispec.Index
		if err := json.Unmarshal(got.Raw, &index); err != nil || index.Annotations["k"] != "v" || index.Manifests[1].Annotations["m"] != "arm" {
			t.Errorf("index %s", got.Raw)
		}
		elsewhere := newTestRegistry(t)
		if again, err := b.PushIndex(t.Context(), elsewhere.host+"/x", got, PushOptions{}); err != nil || again.Digest != desc.Digest {
			t.Errorf("pushed elsewhere: %s, want %s (%v)", again.Digest, desc.Digest, err)
		}
	}
	b := newTestClient(t, quick)
	if _, err := b.PullIndex(t.Context(), name, []ocispec.Platform{armv7}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a platform that it lacks: %v", err)
	}
}

// All platforms of an image that is for one are that one.
func TestPullAllOfOne(t *testing.T) {
	reg, a, img, desc := pushed(t)
	b := newTestClient(t, quick)
	x, err := b.PullIndex(t.Context(), reg.host+"/app", nil)
	if err != nil || len(x.Images) != 1 || x.Descriptor.Digest != desc.Digest {
		t.Fatalf("%+v, %v", x, err)
	}
	sameImage(t, a, img, b, x.Images[0])
	if known, err := b.images.ResolveLocal(reg.host + "/app"); err != nil || known.ID != img.ID {
		t.Errorf("the store has %+v, %v", known, err)
	}
}

// An image that was stored with annotations, and then without, has none.
func TestManifestIsTheNames(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	plain := madeImage(t, c)
	noted, err := c.Shape(t.Context(), plain, Form{Annotations: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]*Image{"noted": noted, "plain": plain} {
		if err := c.images.Put(t.Context(), img, name); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"noted": true, "plain": false} {
		img, err := c.images.ResolveLocal(name)
		if err != nil || (img.Manifest != nil) != want {
			t.Errorf("%s: manifest %v, %v", name, img.Manifest, err)
		}
	}
}

func TestPushByDigest(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	desc, err := c.Push(t.Context(), reg.host+"/app:tag", testImage(t, c, "app", 10), PushOptions{ByDigest: true})
	if err != nil {
		t.Fatal(err)
	}
	other := newTestClient(t, quick)
	if _, err := other.Resolve(t.Context(), reg.host+"/app@"+desc.Digest.String(), amd64); err != nil {
		t.Error(err)
	}
	if _, err := other.Resolve(t.Context(), reg.host+"/app:tag", amd64); !errors.Is(err, ErrNotFound) {
		t.Errorf("the tag: %v", err)
	}
}

// madeImage is an image whose layer was made here, not imported.
func madeImage(t *testing.T, c *Client) *Image {
	t.Helper()
	in := AssembleInput{Config: testConfig(), Epoch: &day}
	for _, name := range []string{"a", "b"} {
		data := strings.Repeat(name, 9000)
		change := snapshot.Change{
			Entry: snapshot.Entry{Path: name, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(data)), ModTime: day, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())},
			Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil },
		}
		l, err := c.store.WriteLayer(t.Context(), in.Stack, []snapshot.Change{change}, snapshot.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		in.Stack = append(in.Stack[:len(in.Stack):len(in.Stack)], l)
		in.Steps = append(in.Steps, AssembleStep{CreatedBy: "COPY", Stack: in.Stack, Config: in.Config})
	}
	img, err := Assemble(in)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestShape(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give the files of layers to 0:0")
	}
	isolate(t)
	reg := newTestRegistry(t)
	maker := newTestClient(t, quick)
	plain := madeImage(t, maker)
	usual := mustPush(t, maker, reg.host+"/base", plain)
	level := 9
	for _, c := range []struct {
		form Form
		want string
	}{
		{Form{}, ocispec.MediaTypeImageLayerGzip},
		{Form{Compression: Compression{Type: "gzip", Level: &level}}, ocispec.MediaTypeImageLayerGzip},
		{Form{Compression: Compression{Type: "zstd"}}, ocispec.MediaTypeImageLayerZstd},
		{Form{Compression: Compression{Type: "uncompressed", Force: true}, Annotations: map[string]string{"a": "b"}}, ocispec.MediaTypeImageLayer},
		{Form{DockerTypes: true}, "application/vnd.docker.image.rootfs.diff.tar.gzip"},
	} {
		img, err := maker.Shape(t.Context(), plain, c.form)
		if err != nil {
			t.Fatal(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(img.RawManifest, &m); err != nil {
			t.Fatal(err)
		}
		for _, l := range m.Layers {
			if l.MediaType != c.want {
				t.Errorf("%+v: layer %s, want %s", c.form, l.MediaType, c.want)
			}
		}
		if m.Annotations["a"] != c.form.Annotations["a"] {
			t.Errorf("annotations %v", m.Annotations)
		}
		desc := mustPush(t, maker, reg.host+"/shaped", img)
		if desc.Digest != img.Manifest.Digest {
			t.Errorf("pushed %s, want %s", desc.Digest, img.Manifest.Digest)
		}
		b := newTestClient(t, quick)
		sameImage(t, maker, img, b, mustPull(t, b, reg.host+"/shaped"))
	}
	if again := mustPush(t, maker, reg.host+"/again", plain); again.Digest != usual.Digest {
		t.Errorf("other forms changed the usual one: %s, want %s", again.Digest, usual.Digest)
	}
	// What was pulled keeps its form unless that is forced.
	b := newTestClient(t, quick)
	pulled := mustPull(t, b, reg.host+"/base")
	for force, want := range map[bool]string{false: ocispec.MediaTypeImageLayerGzip, true: ocispec.MediaTypeImageLayerZstd} {
		img, err := b.Shape(t.Context(), pulled, Form{Compression: Compression{Type: "zstd", Force: force}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(img.RawManifest, []byte(want)) {
			t.Errorf("force=%v: no %s in %s", force, want, img.RawManifest)
		}
	}
	ten := 10
	for _, bad := range []Compression{{Type: "nydus"}, {Type: "gzip", Level: &ten}, {Type: "uncompressed", Level: &level}} {
		if _, err := b.Shape(t.Context(), pulled, Form{Compression: bad}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
