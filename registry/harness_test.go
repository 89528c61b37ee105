package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	fake "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// testRegistry is a registry in this process that records what it is asked and
// can be made to misbehave.
type testRegistry struct {
	*httptest.Server
	host string

	mu       sync.Mutex
	requests []string // guarded by mu
	// fault answers a request instead of the registry if it returns true.
	fault func(w http.ResponseWriter, r *http.Request, next http.Handler) bool // guarded by mu
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	inner := fake.New(fake.Logger(log.New(io.Discard, "", 0)))
	r := &testRegistry{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, req.Method+" "+req.URL.Path)
		fault := r.fault
		r.mu.Unlock()
		if fault != nil && fault(w, req, inner) {
			return
		}
		inner.ServeHTTP(w, req)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(r.URL, "http://")
	return r
}

func (r *testRegistry) setFault(f func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// take returns the requests so far and forgets them.
func (r *testRegistry) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.requests
	r.requests = nil
	return out
}

func count(requests []string, method, part string) int {
	n := 0
	for _, q := range requests {
		if strings.HasPrefix(q, method+" ") && strings.Contains(q, part) {
			n++
		}
	}
	return n
}

var quick = Options{
	UserAgent: "builder-test",
	Retry:     Retry{Attempts: 4, Wait: time.Millisecond, MaxWait: 5 * time.Millisecond},
	Timeouts:  Timeouts{Dial: 10 * time.Second, TLS: 10 * time.Second, Header: 20 * time.Second, Stall: 10 * time.Second},
}

// newTestClient makes a client with a store of its own.
func newTestClient(t *testing.T, opts Options) *Client {
	t.Helper()
	store, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return newClientOn(t, store, opts)
}

func newClientOn(t *testing.T, store *snapshot.Store, opts Options) *Client {
	t.Helper()
	images, err := OpenImages(store)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(store, images, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// testTar is a layer with one file of half-compressible content.
func testTar(t *testing.T, name string, size int) []byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, uint64(len(name)+size)))
	data := make([]byte, size)
	for i := range data {
		if i%2 == 0 {
			data[i] = byte(rnd.Uint32())
		}
	}
	copy(data, name)
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755, ModTime: day, Uid: os.Getuid(), Gid: os.Getgid()},
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755, ModTime: day, Uid: os.Getuid(), Gid: os.Getgid()},
		{Typeflag: tar.TypeReg, Name: "d/" + name, Mode: 0o644, Size: int64(size), ModTime: day, Uid: os.Getuid(), Gid: os.Getgid()},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// testImage makes an image with one layer for each size.
func testImage(t *testing.T, c *Client, name string, sizes ...int) *Image {
	t.Helper()
	in := AssembleInput{Config: testConfig()}
	for i, size := range sizes {
		l, err := c.store.Import(t.Context(), in.Stack, "", bytes.NewReader(testTar(t, fmt.Sprint(name, i), size)))
		if err != nil {
			t.Fatal(err)
		}
		in.Stack = append(in.Stack[:i:i], l)
		in.Steps = append(in.Steps, AssembleStep{CreatedBy: fmt.Sprintf("COPY %d /", i), Stack: in.Stack, Config: in.Config})
	}
	epoch := day
	in.Epoch = &epoch
	img, err := Assemble(in)
	if err != nil {
		t.Fatal(err)
	}
	if img.V1, err = V1Records(in, c.images.PutV1); err != nil {
		t.Fatal(err)
	}
	if err := c.images.Put(t.Context(), img, name); err != nil {
		t.Fatal(err)
	}
	img.Names = []string{mustRef(t, name).String()}
	return img
}

// tarDigests reads all layers.
func tarDigests(t *testing.T, c *Client, stack snapshot.Stack) []digest.Digest {
	t.Helper()
	var out []digest.Digest
	for _, l := range stack {
		r, err := c.store.Tar(t.Context(), l)
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

// sameImage fails unless b is a with the same bytes.
func sameImage(t *testing.T, ac *Client, a *Image, bc *Client, b *Image) {
	t.Helper()
	if a.ID != b.ID || !bytes.Equal(a.RawConfig, b.RawConfig) {
		t.Errorf("image %s became %s", a.ID, b.ID)
	}
	if got, want := tarDigests(t, bc, b.Stack), tarDigests(t, ac, a.Stack); !slices.Equal(got, want) {
		t.Errorf("layers %v became %v", want, got)
	}
}

func mustPush(t *testing.T, c *Client, ref string, img *Image) ocispec.Descriptor {
	t.Helper()
	desc, err := c.Push(t.Context(), ref, img, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func mustPull(t *testing.T, c *Client, ref string) *Image {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fixtures.Patience)
	defer cancel()
	img, err := c.Pull(ctx, ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

var day = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

func testConfig() ImageConfig {
	var c ImageConfig
	c.OS, c.Architecture = "linux", "amd64"
	c.Config.Env = []string{"PATH=/bin"}
	return c
}

func writeFileT(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func basic(user, pass string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + pass))
}

// isolate keeps the machine's own credentials and settings out of a test.
func isolate(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("HOME", home)
	for _, v := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_AUTH_CONFIG", "BUILDER_REGISTRY_MIRROR"} {
		t.Setenv(v, "")
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(home, "none"))
	return home
}

func mustRef(t *testing.T, s string) Reference {
	t.Helper()
	r, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
