package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPushPull(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	a := newTestClient(t, quick)
	img := testImage(t, a, "app", 3<<20, 100, 0)
	var mu sync.Mutex
	items, totals := map[string]int64{}, map[string]int64{}
	ctx := WithProgress(t.Context(), func(item string, cur, total int64) {
		mu.Lock()
		defer mu.Unlock()
		items[item], totals[item] = cur, total
	})
	desc, err := a.Push(ctx, reg.host+"/team/app:1", img, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(items) < 4 {
		t.Errorf("progress of %d items, want one a layer and the configuration", len(items))
	}
	for item, cur := range items {
		if cur != totals[item] {
			t.Errorf("progress of %s ended at %d of %d", item, cur, totals[item])
		}
	}
	reqs := reg.take()
	if n := count(reqs, "PATCH", "/blobs/uploads/"); n != 4 {
		t.Errorf("%d blobs sent, want 3 layers and the configuration:\n%s", n, strings.Join(reqs, "\n"))
	}

	t.Run("again sends nothing", func(t *testing.T) {
		c := newClientOn(t, a.store, quick)
		again, err := c.Push(t.Context(), reg.host+"/team/app:2", img, PushOptions{})
		if err != nil || again.Digest != desc.Digest {
			t.Fatalf("%v, %v; want %v", again.Digest, err, desc.Digest)
		}
		if reqs := reg.take(); count(reqs, "PATCH", "")+count(reqs, "POST", "") != 0 {
			t.Errorf("blobs were sent again:\n%s", strings.Join(reqs, "\n"))
		}
	})
	t.Run("another repository mounts", func(t *testing.T) {
		// The fake registry has one pool of blobs for all repositories, and does
		// not know mounts.
		var mounted []string
		reg.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !strings.HasPrefix(r.URL.Path, "/v2/other/app/blobs/") {
				return false
			}
			q := r.URL.Query()
			switch {
			case r.Method == http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
				return true
			case r.Method == http.MethodPost && q.Get("from") == "team/app" && q.Get("mount") != "":
				mu.Lock()
				defer mu.Unlock()
				mounted = append(mounted, q.Get("mount"))
				w.WriteHeader(http.StatusCreated)
				return true
			}
			return false
		})
		defer reg.setFault(nil)
		got := mustPush(t, newClientOn(t, a.store, quick), reg.host+"/other/app", img)
		if reqs := reg.take(); count(reqs, "PATCH", "/other/") != 1 || len(mounted) != 3 || got.Digest != desc.Digest {
			t.Errorf("mounted %v:\n%s", mounted, strings.Join(reqs, "\n"))
		}
	})
	t.Run("pull", func(t *testing.T) {
		b := newTestClient(t, quick)
		got := mustPull(t, b, reg.host+"/team/app:1")
		sameImage(t, a, img, b, got)
		if got.Manifest.Digest != desc.Digest {
			t.Errorf("manifest %s, want %s", got.Manifest.Digest, desc.Digest)
		}
		local, err := b.images.ResolveLocal(reg.host + "/team/app:1")
		if err != nil || local.ID != img.ID || local.Manifest.Digest != desc.Digest {
			t.Errorf("local image: %+v, %v", local, err)
		}
		for _, l := range local.Stack {
			if l.Size == 0 {
				t.Errorf("layer %s has no size", l.DiffID)
			}
		}
	})
	t.Run("pulled image goes elsewhere bit for bit", func(t *testing.T) {
		reg2 := newTestRegistry(t)
		b := newTestClient(t, quick)
		mustPull(t, b, reg.host+"/team/app:1")
		// Another process, which has to find the blobs again.
		c := newClientOn(t, b.store, quick)
		local, err := c.images.ResolveLocal(reg.host + "/team/app:1")
		if err != nil {
			t.Fatal(err)
		}
		if got := mustPush(t, c, reg2.host+"/copy", local); got.Digest != desc.Digest {
			t.Errorf("manifest %s, want %s", got.Digest, desc.Digest)
		}
	})
}

func TestResolveByDigestNeedsNoRequest(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	a := newTestClient(t, quick)
	desc := mustPush(t, a, reg.host+"/app", testImage(t, a, "app", 10))
	b := newTestClient(t, quick)
	ref := reg.host + "/app@" + desc.Digest.String()
	first, err := b.Resolve(t.Context(), ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	reg.take()
	second, err := newClientOn(t, b.store, quick).Resolve(t.Context(), ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	if reqs := reg.take(); len(reqs) != 0 {
		t.Errorf("requests: %v", reqs)
	}
	if first.Digest() != desc.Digest || second.Digest() != desc.Digest || second.Ref != ref || !bytes.Equal(first.RawConfig, second.RawConfig) {
		t.Errorf("%+v\n%+v", first, second)
	}
}

// A build may register a base image and never need its layers; the next process
// must be able to fetch them.
func TestAttachAfterLazyLayers(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	a := newTestClient(t, quick)
	img := testImage(t, a, "app", 1000, 2000)
	mustPush(t, a, reg.host+"/app", img)

	b := newTestClient(t, quick)
	r, err := b.Resolve(t.Context(), reg.host+"/app", amd64)
	if err != nil {
		t.Fatal(err)
	}
	stack, err := b.Layers(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if reqs := reg.take(); count(reqs, "GET", "/blobs/"+r.Layers[0].Digest.String()) != 0 {
		t.Errorf("a layer was fetched: %v", reqs)
	}
	c := newClientOn(t, b.store, quick)
	if err := c.Attach(stack); err != nil {
		t.Fatal(err)
	}
	if err := c.store.Materialize(t.Context(), stack); err != nil {
		t.Fatal(err)
	}
	sameImage(t, a, img, c, &Image{ID: img.ID, RawConfig: img.RawConfig, Stack: stack})
}

func TestLayerlessImage(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	a := newTestClient(t, quick)
	cfg := testConfig()
	img, err := Assemble(AssembleInput{Config: cfg, Steps: []AssembleStep{{CreatedBy: "LABEL a=b", EmptyLayer: true, Config: cfg}}})
	if err != nil {
		t.Fatal(err)
	}
	desc := mustPush(t, a, reg.host+"/empty", img)
	got := mustPull(t, newTestClient(t, quick), reg.host+"/empty")
	if got.ID != img.ID || len(got.Stack) != 0 || len(got.Config.History) != 1 || got.Manifest.Digest != desc.Digest {
		t.Errorf("%+v", got)
	}
}

func TestPushLayersAhead(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 5000, 6000)
	if err := c.PushLayers(t.Context(), reg.host+"/app", img.Stack[:1], PushOptions{}); err != nil {
		t.Fatal(err)
	}
	first := reg.take()
	mustPush(t, c, reg.host+"/app", img)
	if n := count(first, "PATCH", ""); n != 1 {
		t.Errorf("%d blobs sent ahead, want 1", n)
	}
	if n := count(reg.take(), "PATCH", ""); n != 2 {
		t.Errorf("%d blobs sent by the push, want the second layer and the configuration", n)
	}
}

func TestPushDockerTypes(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	desc, err := c.Push(t.Context(), reg.host+"/app", testImage(t, c, "app", 10), PushOptions{DockerTypes: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := newTestClient(t, quick).Resolve(t.Context(), reg.host+"/app", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if desc.MediaType != "application/vnd.docker.distribution.manifest.v2+json" || r.Descriptor.MediaType != desc.MediaType ||
		r.Layers[0].MediaType != "application/vnd.docker.image.rootfs.diff.tar.gzip" {
		t.Errorf("%s, %s", desc.MediaType, r.Layers[0].MediaType)
	}
}

func TestIndexPlatform(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	want := map[string]digest.Digest{}
	for _, p := range []ocispec.Platform{
		{OS: "unknown", Architecture: "unknown"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "arm", Variant: "v6"},
		{OS: "linux", Architecture: "arm", Variant: "v7"},
		{OS: "linux", Architecture: "amd64"},
		{OS: "windows", Architecture: "amd64"},
	} {
		cfg := testConfig()
		cfg.Platform = p
		img, err := Assemble(AssembleInput{Config: cfg, Steps: []AssembleStep{{CreatedBy: "LABEL", EmptyLayer: true, Config: cfg}}})
		if err != nil {
			t.Fatal(err)
		}
		desc := mustPush(t, c, reg.host+"/multi:"+p.OS+p.Architecture+p.Variant, img)
		desc.Platform = &p
		index.Manifests = append(index.Manifests, desc)
		want[p.OS+"/"+p.Architecture+"/"+p.Variant] = desc.Digest
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, reg.URL+"/v2/multi/manifests/latest", strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", ocispec.MediaTypeImageIndex)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for in, out := range map[string]string{
		"linux/amd64/":   "linux/amd64/",
		"linux/arm64/":   "linux/arm64/v8",
		"linux/arm/v7":   "linux/arm/v7",
		"linux/arm/v6":   "linux/arm/v6",
		"windows/amd64/": "windows/amd64/",
	} {
		p := strings.Split(in, "/")
		r, err := newTestClient(t, quick).Resolve(t.Context(), reg.host+"/multi", ocispec.Platform{OS: p[0], Architecture: p[1], Variant: p[2]})
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if r.Digest() != want[out] || r.Index == nil || r.Index.Digest != digest.FromBytes(raw) {
			t.Errorf("%s: got %s of index %v", in, r.Digest(), r.Index)
		}
	}
	_, err = newTestClient(t, quick).Resolve(t.Context(), reg.host+"/multi", ocispec.Platform{OS: "linux", Architecture: "s390x"})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "linux/arm/v7") || strings.Contains(err.Error(), "unknown") {
		t.Errorf("%v", err)
	}
}
