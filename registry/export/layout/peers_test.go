package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/exporttest"
)

// need skips a test for want of a program.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fixtures.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// realRegistry starts Debian's docker-registry and returns its address, and a
// function that returns the requests since the last call.
func realRegistry(t *testing.T) (string, func() []string) {
	t.Helper()
	return front(t, fixtures.StartRegistry(t).Host)
}

// front puts a proxy that counts before a server.
func front(t *testing.T, addr string) (string, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var requests []string
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host // so that Location leads here again
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, r.Method+" "+r.URL.Path)
		mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := requests
		requests = nil
		return out
	}
}

func patches(requests []string) int {
	n := 0
	for _, r := range requests {
		if strings.HasPrefix(r, "PATCH ") {
			n++
		}
	}
	return n
}

func manifestDigest(t *testing.T, ref string) digest.Digest {
	t.Helper()
	return digest.FromString(run(t, "skopeo", "inspect", "--tls-verify=false", "--raw", ref))
}

func TestPeersRegistry(t *testing.T) {
	need(t, "skopeo")
	addr, requests := realRegistry(t)
	a := exporttest.NewClient(t)
	img := exporttest.NewImage(t, a, "base", "one", "two")
	if err := a.Images().Put(t.Context(), img, "app"); err != nil {
		t.Fatal(err)
	}
	desc, err := a.Push(t.Context(), addr+"/team/app:1", img, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := patches(requests()); n != 4 {
		t.Errorf("%d blobs sent, want 4", n)
	}
	t.Run("skopeo copies it", func(t *testing.T) {
		run(t, "skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+addr+"/team/app:1", "docker://"+addr+"/copy:1")
		if got := manifestDigest(t, "docker://"+addr+"/copy:1"); got != desc.Digest {
			t.Errorf("copy is %s, want %s", got, desc.Digest)
		}
		var cfg registry.ImageConfig
		if err := json.Unmarshal([]byte(run(t, "skopeo", "inspect", "--tls-verify=false", "--config", "docker://"+addr+"/copy:1")), &cfg); err != nil {
			t.Fatal(err)
		}
		if len(cfg.History) != 3 || cfg.History[1].CreatedBy != "COPY one" || len(cfg.RootFS.DiffIDs) != 3 || cfg.OS != "linux" {
			t.Errorf("%+v", cfg)
		}
	})
	t.Run("another repository mounts", func(t *testing.T) {
		requests()
		got, err := a.Push(t.Context(), addr+"/other/app", img, registry.PushOptions{})
		if err != nil || got.Digest != desc.Digest {
			t.Fatalf("%v, %v", got.Digest, err)
		}
		if n := patches(requests()); n != 1 {
			t.Errorf("%d blobs sent, want only the configuration", n)
		}
	})
	t.Run("zstd and docker types", func(t *testing.T) {
		src := "docker://" + addr + "/team/app:1"
		plain := "dir:" + t.TempDir() // what is not compressed yet is compressed as asked
		run(t, "skopeo", "copy", "--src-tls-verify=false", "--dest-decompress", src, plain)
		for name, args := range map[string][]string{
			"v2s2": {"--format", "v2s2", src},
			"zstd": {"--format", "oci", "--dest-compress-format", "zstd", plain},
		} {
			other, _ := realRegistry(t) // which has no gzip that skopeo would rather take
			ref := other + "/conv" + name
			run(t, "skopeo", append([]string{"copy", "--src-tls-verify=false", "--dest-tls-verify=false"}, append(args, "docker://"+ref)...)...)
			want := manifestDigest(t, "docker://"+ref)
			b := exporttest.NewClient(t)
			got, err := b.Pull(t.Context(), ref, ocispec.Platform{OS: "linux", Architecture: "amd64"})
			if err != nil {
				t.Fatal(err)
			}
			if got.Manifest.Digest != want || !slices.Equal(exporttest.Diffs(t, b, got), exporttest.Diffs(t, a, img)) {
				t.Errorf("%s: %s, want %s", name, got.Manifest.Digest, want)
			}
			if raw := string(got.RawManifest); name == "zstd" && !strings.Contains(raw, "tar+zstd") || name == "v2s2" && !strings.Contains(raw, "vnd.docker") {
				t.Errorf("%s: %s", name, raw)
			}
			pushed, err := b.Push(t.Context(), other+"/again", got, registry.PushOptions{})
			if err != nil || pushed.Digest != want || manifestDigest(t, "docker://"+other+"/again") != want {
				t.Errorf("%s: pushed again it is %s (%v), want %s", name, pushed.Digest, err, want)
			}
		}
	})
}

func TestPeersArchives(t *testing.T) {
	need(t, "skopeo")
	addr, _ := realRegistry(t)
	a := exporttest.NewClient(t)
	img := exporttest.NewImage(t, a, "base", "one")
	desc, err := a.Push(t.Context(), addr+"/app", img, registry.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for kind, write := range map[string]func(*os.File) error{
		"oci-archive": func(f *os.File) error {
			return WriteOCI(t.Context(), f, a, Item{Image: img, Names: []string{"app:1"}})
		},
		"docker-archive": func(f *os.File) error {
			return WriteDocker(t.Context(), f, a, Item{Image: img, Names: []string{"app:1"}})
		},
	} {
		t.Run(kind, func(t *testing.T) {
			f, err := os.Create(filepath.Join(dir, kind+".tar"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := write(f); err != nil {
				t.Fatal(err)
			}
			// Ours, read by skopeo.
			run(t, "skopeo", "copy", "--dest-tls-verify=false", kind+":"+f.Name(), "docker://"+addr+"/from-"+kind)
			if got := manifestDigest(t, "docker://"+addr+"/from-"+kind); kind == "oci-archive" && got != desc.Digest {
				t.Errorf("manifest %s, want %s", got, desc.Digest)
			}
			// Skopeo's, read by us.
			theirs := filepath.Join(dir, "theirs-"+kind+".tar")
			run(t, "skopeo", "copy", "--src-tls-verify=false", "docker://"+addr+"/app", kind+":"+theirs+":example.com/theirs:1")
			r, err := os.Open(theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			b := exporttest.NewClient(t)
			got, err := Load(t.Context(), r, b)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !slices.Equal(exporttest.Diffs(t, b, got[0]), exporttest.Diffs(t, a, img)) || !slices.Equal(got[0].Names, []string{"example.com/theirs:1"}) {
				t.Errorf("%+v", got)
			}
			if kind == "oci-archive" && (got[0].ID != img.ID || got[0].Manifest.Digest != desc.Digest) {
				t.Errorf("image %s, manifest %s; want %s, %s", got[0].ID, got[0].Manifest.Digest, img.ID, desc.Digest)
			}
		})
	}
	t.Run("umoci unpacks", func(t *testing.T) {
		need(t, "umoci")
		layout := filepath.Join(dir, "layout")
		if err := writeOCIDir(t, layout, a, Item{Image: img, Names: []string{"app:1"}}); err != nil {
			t.Fatal(err)
		}
		bundle := filepath.Join(dir, "bundle")
		args := []string{"unpack", "--image", layout + ":1", bundle}
		if os.Geteuid() != 0 {
			args = slices.Insert(args, 1, "--rootless")
		}
		run(t, "umoci", args...)
		data, err := os.ReadFile(filepath.Join(bundle, "rootfs", "one"))
		if err != nil || string(data) != strings.Repeat("one", 1000) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	})
}
