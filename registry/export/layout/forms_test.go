package layout

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures"
	"layered.build/builder/fixtures/stock"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/exporttest"
)

// TestPeersForms gives images in every form to crane, skopeo, umoci and podman.
func TestPeersForms(t *testing.T) {
	need(t, "skopeo", "umoci", "podman")
	crane, err := stock.Crane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := realRegistry(t)
	c := exporttest.NewClient(t)
	plain := exporttest.NewImage(t, c, "base", "one")
	for _, kind := range []string{"gzip", "zstd", "uncompressed", "estargz", "zstd:chunked"} {
		t.Run(kind, func(t *testing.T) {
			img, err := c.Shape(t.Context(), plain, registry.Form{Compression: registry.Compression{Type: kind, Force: true}})
			if err != nil {
				t.Fatal(err)
			}
			arm, err := c.Shape(t.Context(), onArm(t, plain), registry.Form{Compression: registry.Compression{Type: kind, Force: true}})
			if err != nil {
				t.Fatal(err)
			}
			x := &registry.Index{Images: []*registry.Image{img, arm}}
			repo := addr + "/forms/" + strings.ReplaceAll(kind, ":", "-")
			desc, err := c.Push(t.Context(), repo+":one", img, registry.PushOptions{})
			if err != nil {
				t.Fatal(err)
			}
			index, err := c.PushIndex(t.Context(), repo+":both", x, registry.PushOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for tag, want := range map[string]digest.Digest{":one": desc.Digest, ":both": index.Digest} {
				if got := strings.TrimSpace(run(t, crane, "digest", "--insecure", repo+tag)); got != want.String() {
					t.Errorf("%s is %s, want %s", tag, got, want)
				}
				args := []string{"validate", "--insecure", "--remote", repo + tag}
				if kind != "gzip" && kind != "estargz" {
					args = append(args, "--fast") // it decompresses gzip only
				}
				run(t, crane, args...)
			}
			tar := run(t, crane, "export", "--insecure", repo+":one", "-")
			if !strings.Contains(tar, strings.Repeat("one", 1000)) {
				t.Error("crane does not export the file")
			}
			readForm(t, repo, kind)
		})
	}
}

// onArm is the image for another platform.
func onArm(t *testing.T, img *registry.Image) *registry.Image {
	t.Helper()
	out := &registry.Image{Config: img.Config, Stack: img.Stack}
	out.Config.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	var err error
	if out.RawConfig, err = json.Marshal(out.Config); err != nil {
		t.Fatal(err)
	}
	out.ID = digest.FromBytes(out.RawConfig)
	return out
}

// readForm copies an image with skopeo and reads it with umoci and podman.
func readForm(t *testing.T, repo, kind string) {
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+repo+":both", "oci:"+layout+":both")
	run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+repo+":one", "oci:"+layout+":1")
	files := []string{filepath.Join(dir, "bundle", "rootfs")}
	if !strings.HasPrefix(kind, "zstd") { // which this umoci does not know
		args := []string{"unpack", "--image", layout + ":1", filepath.Join(dir, "bundle")}
		if os.Geteuid() != 0 {
			args = slices.Insert(args, 1, "--rootless")
		}
		run(t, "umoci", args...)
	} else {
		files = nil
	}
	if fixtures.RealRoot() {
		podman := []string{"--root", dir + "/podman", "--runroot", fixtures.ShortDir(t), "--storage-driver", "vfs", "--events-backend", "none"}
		run(t, "podman", append(podman, "pull", "-q", "--tls-verify=false", repo+":one")...)
		files = append(files, strings.TrimSpace(run(t, "podman", append(podman, "image", "mount", repo+":one")...)))
		defer run(t, "podman", append(podman, "image", "umount", "-a")...)
	}
	for _, root := range files {
		data, err := os.ReadFile(filepath.Join(root, "one"))
		if err != nil || string(data) != strings.Repeat("one", 1000) {
			t.Errorf("%s: %d bytes, %v", root, len(data), err)
		}
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), "stargz") || strings.Contains(e.Name(), "prefetch") {
				t.Errorf("%s has %s", root, e.Name())
			}
		}
	}
}
