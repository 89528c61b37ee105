package engines

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/exporttest"
	"layered.build/builder/registry/export/layout"
)

// keepManifests makes the fake what docker is with containerd's store: it takes an OCI
// layout that lacks blobs, and says later that the image is not whole.
func (f *fakeDocker) keepManifests() {
	f.blobs = map[digest.Digest][]byte{}
	f.images = map[digest.Digest][]digest.Digest{}
}

// takeLayout is load of an OCI layout.
func (f *fakeDocker) takeLayout(files map[string][]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for name, data := range files {
		if d, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && len(d) == 64 {
			f.blobs[digest.Digest("sha256:"+d)] = data
			n++
		}
	}
	var index ocispec.Index
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		return err
	}
	for _, desc := range index.Manifests {
		var m ocispec.Manifest
		if err := json.Unmarshal(f.blobs[desc.Digest], &m); err != nil {
			return err
		}
		var cfg registry.ImageConfig
		if err := json.Unmarshal(f.blobs[m.Config.Digest], &cfg); err != nil {
			return err
		}
		f.images[desc.Digest] = cfg.RootFS.DiffIDs
	}
	f.loads = append(f.loads, n-2) // without the manifest and the configuration
	return nil
}

// available is whether all blobs of an image are there.
func (f *fakeDocker) available(id digest.Digest) bool {
	var m ocispec.Manifest
	if json.Unmarshal(f.blobs[id], &m) != nil {
		return false
	}
	return !slices.ContainsFunc(m.Layers, func(l ocispec.Descriptor) bool { return f.blobs[l.Digest] == nil })
}

func (f *fakeDocker) info(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blobs == nil {
		io.WriteString(w, `{"DriverStatus":[["Backing Filesystem","extfs"]]}`)
		return
	}
	io.WriteString(w, `{"DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`)
}

func TestLoadDaemonThatKeepsManifests(t *testing.T) {
	f, d := startDocker(t)
	f.keepManifests()
	c := exporttest.NewClient(t)
	base, app := exporttest.NewImage(t, c, "base", "one", "two"), exporttest.NewImage(t, c, "base", "one", "two", "three")
	load := func(img *registry.Image, want int, loads []int, names ...string) {
		t.Helper()
		f.loads = nil
		sent, err := LoadDaemon(t.Context(), d, c, layout.Item{Image: img, Names: names})
		if err != nil || sent != want || !slices.Equal(f.loads, loads) {
			t.Fatalf("sent %d layers in %v, %v; want %d in %v", sent, f.loads, err, want, loads)
		}
		desc, _, err := c.Complete(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if got := f.names[n]; got != desc.Digest || !f.available(got) {
				t.Errorf("%s is %s, whole: %t; want %s", n, got, f.available(got), desc.Digest)
			}
		}
	}
	const name = "docker.io/library/"
	load(base, 3, []int{3}, name+"base:1")
	load(app, 1, []int{1}, name+"app:1", "example.com/app:2")
	load(app, 0, nil, name+"again:1")
	// An engine that has the layers in another form gets all of them.
	f.images = map[digest.Digest][]digest.Digest{"sha256:" + digest.Digest(strings.Repeat("a", 64)): base.Config.RootFS.DiffIDs}
	f.blobs = map[digest.Digest][]byte{}
	load(app, 4, []int{1, 4}, name+"app:1")
}

// TestLoadDaemonTellsWhatItCouldNotUnpack: docker answers that with success.
func TestLoadDaemonTellsWhatItCouldNotUnpack(t *testing.T) {
	f, d := startDocker(t)
	f.keepManifests()
	f.says = `{"stream":"Loaded image: app:1\n"}` + "\n" + `{"stream":"Error unpacking image app:1: no space left on device\n"}`
	c := exporttest.NewClient(t)
	_, err := LoadDaemon(t.Context(), d, c, layout.Item{Image: exporttest.NewImage(t, c, "base"), Names: []string{"app:1"}})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	if len(f.names) > 0 {
		t.Errorf("names %v", f.names)
	}
}
