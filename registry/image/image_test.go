package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/snapshot"
)

const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

func testImage(t *testing.T, p ocispec.Platform) *Image {
	t.Helper()
	d := digest.FromString("layer")
	stack := snapshot.Stack{{ID: snapshot.LayerID(d.Encoded()), DiffID: snapshot.DiffID(d)}}
	var cfg Config
	cfg.Platform, cfg.RootFS = p, RootFS(stack)
	img, err := New(cfg, stack)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func manifestOf(t *testing.T, img *Image, form Form) (ocispec.Descriptor, []byte) {
	t.Helper()
	layer := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob"), Size: 4,
		Annotations: map[string]string{"containerd.io/snapshot/stargz/toc.digest": "sha256:x", "other": "y"},
	}
	desc, raw, err := NewManifest(ocispec.Descriptor{Digest: img.ID, Size: int64(len(img.RawConfig))}, []ocispec.Descriptor{layer}, form)
	if err != nil {
		t.Fatal(err)
	}
	return desc, raw
}

func TestNewManifest(t *testing.T) {
	img := testImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	for _, docker := range []bool{false, true} {
		desc, raw := manifestOf(t, img, Form{DockerTypes: docker, Annotations: map[string]string{"a": "b"}})
		if err := Verify(raw, desc); err != nil {
			t.Error(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if m.Config.Digest != img.ID || m.MediaType != desc.MediaType || m.Annotations["a"] != "b" || (m.MediaType == dockerManifest) != docker {
			t.Errorf("%+v", m)
		}
		if toc := m.Layers[0].Annotations["containerd.io/snapshot/stargz/toc.digest"] != ""; toc == docker || m.Layers[0].Annotations["other"] != "" {
			t.Errorf("annotations of the layer: %v", m.Layers[0].Annotations)
		}
		again, err := Describe(raw, "text/plain", ocispec.Descriptor{})
		if err != nil || again.Digest != desc.Digest || again.MediaType != desc.MediaType || again.Size != desc.Size {
			t.Errorf("described as %+v, %v", again, err)
		}
	}
}

func TestKeptLayers(t *testing.T) {
	img := testImage(t, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	if kept, err := img.KeptLayers(); kept != nil || err != nil {
		t.Errorf("without a manifest: %v, %v", kept, err)
	}
	desc, raw := manifestOf(t, img, Form{})
	img.Manifest, img.RawManifest = &desc, raw
	if kept, err := img.KeptLayers(); err != nil || len(kept) != 1 {
		t.Errorf("%v, %v", kept, err)
	}
	other := testImage(t, ocispec.Platform{OS: "linux", Architecture: "arm64"})
	other.Manifest, other.RawManifest = &desc, raw
	if kept, err := other.KeptLayers(); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("the manifest of another image: %v, %v", kept, err)
	}
}

func TestDescribe(t *testing.T) {
	for doc, want := range map[string]string{
		`{"schemaVersion":2}`:                                      ocispec.MediaTypeImageManifest,
		`{"schemaVersion":2,"manifests":[]}`:                       ocispec.MediaTypeImageIndex,
		`{"schemaVersion":2,"mediaType":"` + dockerManifest + `"}`: dockerManifest,
		`{"schemaVersion":1}`:                                      "schema 1 is not supported",
		`{"mediaType":"application/x"}`:                            `"application/x" is not supported`,
		`{`:                                                        "manifest: invalid",
	} {
		got, err := Describe([]byte(doc), "application/octet-stream", ocispec.Descriptor{})
		if err == nil && got.MediaType != want {
			t.Errorf("%s: %s, want %s", doc, got.MediaType, want)
		}
		if err != nil && (!errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}

func TestVerify(t *testing.T) {
	raw := []byte("content")
	good := digest.FromBytes(raw)
	for want, kind := range map[*ocispec.Descriptor]error{
		{}:                                       nil,
		{Size: 7}:                                nil,
		{Digest: good, Size: 7}:                  nil,
		{Digest: digest.SHA512.FromBytes(raw)}:   nil,
		{Size: 8}:                                errdef.ErrBadDigest,
		{Digest: digest.FromString("other")}:     errdef.ErrBadDigest,
		{Digest: "sha256:short"}:                 errdef.ErrInvalid,
		{Digest: digest.Digest("md5:" + "00ff")}: errdef.ErrInvalid,
	} {
		if err := Verify(raw, *want); !errors.Is(err, kind) {
			t.Errorf("%+v: %v, want %v", *want, err, kind)
		}
	}
}

// An index is made of its images' manifests, and one that is known stays as it is.
func TestEncode(t *testing.T) {
	x := &Index{MemberAnnotations: []map[string]string{{"m": "1"}, nil}, Annotations: map[string]string{"i": "2"}}
	var members []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		img := testImage(t, ocispec.Platform{OS: "linux", Architecture: arch})
		desc, _ := manifestOf(t, img, Form{})
		x.Images, members = append(x.Images, img), append(members, img.Member(desc))
	}
	desc, raw, err := x.Encode(members)
	if err != nil || Verify(raw, desc) != nil || !SameMembers(raw, members) || SameMembers(raw, members[:1]) {
		t.Fatalf("%s, %v", raw, err)
	}
	var got ocispec.Index
	if err := json.Unmarshal(raw, &got); err != nil || got.Annotations["i"] != "2" || got.Manifests[0].Annotations["m"] != "1" || members[0].Annotations != nil {
		t.Errorf("%+v, %v", got, err)
	}
	ps, err := Platforms(raw, nil)
	if err != nil || len(ps) != 2 || ps[1].Architecture != "arm64" {
		t.Errorf("%v, %v", ps, err)
	}
	known := bytes.ReplaceAll(raw, []byte("  "), []byte("\t"))
	kd := ocispec.Descriptor{MediaType: desc.MediaType, Digest: digest.FromBytes(known), Size: int64(len(known))}
	x.Descriptor, x.Raw = &kd, known
	if d, r, err := x.Encode(members); err != nil || d.Digest != kd.Digest || !bytes.Equal(r, known) {
		t.Errorf("a known index became %s, %v", r, err)
	}
	if d, _, err := x.Encode(members[:1]); err != nil || d.Digest == kd.Digest {
		t.Errorf("the index of other manifests: %s, %v", d.Digest, err)
	}
}

func TestChoose(t *testing.T) {
	amd64, arm64 := &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	v6, v7 := &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	unknown := &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	for name, tc := range map[string]struct {
		have, inside []*ocispec.Platform // inside: what the configuration says; nil: no image
		ask          string
		want         int
		looks        int
		fail         string
	}{
		"exact":                            {have: []*ocispec.Platform{amd64, arm64}, ask: "linux/arm64", want: 1},
		"the best variant":                 {have: []*ocispec.Platform{v6, v7}, ask: "linux/arm/v7", want: 1},
		"an older variant":                 {have: []*ocispec.Platform{v6}, ask: "linux/arm/v7"},
		"one that does not tell":           {have: []*ocispec.Platform{nil, arm64}, inside: []*ocispec.Platform{amd64, nil}, ask: "linux/amd64", looks: 1},
		"one that tells":                   {have: []*ocispec.Platform{nil, arm64}, inside: []*ocispec.Platform{arm64, nil}, ask: "linux/arm64", want: 1},
		"none tells":                       {have: []*ocispec.Platform{nil, nil, nil}, inside: []*ocispec.Platform{nil, arm64, amd64}, ask: "linux/amd64", want: 2, looks: 3},
		"none tells, the best":             {have: []*ocispec.Platform{nil, nil}, inside: []*ocispec.Platform{v6, v7}, ask: "linux/arm/v7", want: 1, looks: 2},
		"none tells, none fits":            {have: []*ocispec.Platform{nil, nil}, inside: []*ocispec.Platform{arm64, nil}, ask: "linux/amd64", looks: 2, fail: "the image has only linux/arm64"},
		"no images":                        {have: []*ocispec.Platform{nil}, inside: []*ocispec.Platform{nil}, ask: "linux/amd64", looks: 1, fail: "the index has no images"},
		"none, and attestations count not": {have: []*ocispec.Platform{arm64, unknown, arm64}, ask: "linux/s390x", fail: "the image has only linux/arm64"},
	} {
		var index ocispec.Index
		for i, p := range tc.have {
			d := digest.FromString(name + string(rune('0'+i)))
			index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Platform: p})
		}
		raw, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		looks := 0
		look := func(entry ocispec.Descriptor) ([]ocispec.Platform, error) {
			looks++
			for i, m := range index.Manifests {
				if p := tc.inside[i]; m.Digest == entry.Digest && p != nil {
					return []ocispec.Platform{*p}, nil
				}
			}
			return nil, nil
		}
		got, err := Choose(raw, platforms.Only(platforms.MustParse(tc.ask)), look)
		if looks != tc.looks {
			t.Errorf("%s: looked %d times, want %d", name, looks, tc.looks)
		}
		if tc.fail != "" {
			if !errors.Is(err, errdef.ErrNotFound) || !strings.HasSuffix(err.Error(), tc.fail) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || got.Digest != index.Manifests[tc.want].Digest {
			t.Errorf("%s: %+v, %v", name, got.Platform, err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	const good = `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:x"]}}`
	for name, tc := range map[string]struct {
		mediaType, raw string
		layers         int
		err            error
	}{
		"an image":                 {ocispec.MediaTypeImageConfig, good, 1, nil},
		"of no type":               {"", good, 1, nil},
		"of a type for all":        {"application/octet-stream", good, 1, nil},
		"another number of layers": {ocispec.MediaTypeImageConfig, good, 2, errdef.ErrInvalid},
		"no type, another number":  {"", good, 2, ErrNoImage},
		"no type, an artifact's":   {"application/octet-stream", "{}", 0, ErrNoImage},
		"no type, no JSON":         {"application/octet-stream", "#!", 0, ErrNoImage},
		"no JSON":                  {ocispec.MediaTypeImageConfig, "#!", 0, errdef.ErrInvalid},
		"something else":           {"application/vnd.cncf.helm.config.v1+json", good, 1, ErrNoImage},
	} {
		m := ocispec.Manifest{Config: ocispec.Descriptor{MediaType: tc.mediaType}, Layers: make([]ocispec.Descriptor, tc.layers)}
		cfg, err := ReadConfig(m, []byte(tc.raw))
		if !errors.Is(err, tc.err) || err == nil && (tc.err != nil || cfg.Architecture != "amd64") {
			t.Errorf("%s: %v, want %v", name, err, tc.err)
		}
	}
}
