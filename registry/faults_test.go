package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot"
)

// pushed starts a registry that has an image whose first layer is large.
func pushed(t *testing.T) (*testRegistry, *Client, *Image, ocispec.Descriptor) {
	t.Helper()
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 1<<20, 10)
	desc := mustPush(t, c, reg.host+"/app", img)
	reg.take()
	return reg, c, img, desc
}

func isLayerGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:")
}

// cut sends only the first n bytes of what the registry would answer, and breaks
// the connection.
func cut(w http.ResponseWriter, r *http.Request, next http.Handler, n int) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	body := rec.Body.Bytes()
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(rec.Code)
	w.Write(body[:min(n, len(body))])
	if len(body) > n {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestPullGoesOnWhereItBroke(t *testing.T) {
	reg, a, img, _ := pushed(t)
	var ranges atomic.Int32
	reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !isLayerGet(r) {
			return false
		}
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		cut(w, r, next, 150_000)
		return true
	})
	b := newTestClient(t, quick)
	sameImage(t, a, img, b, mustPull(t, b, reg.host+"/app"))
	if ranges.Load() < 2 {
		t.Errorf("%d requests with Range, want several", ranges.Load())
	}
}

// TestPullTooMuch: a registry that goes on after the end of a layer is not listened to.
func TestPullTooMuch(t *testing.T) {
	reg, _, _, _ := pushed(t)
	var endless atomic.Int32
	reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !isLayerGet(r) {
			return false
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		w.WriteHeader(http.StatusOK)
		w.Write(rec.Body.Bytes())
		if rec.Body.Len() < 100_000 {
			return true // the configuration
		}
		for range 1 << 10 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return true // nobody listens
			}
		}
		endless.Add(1)
		return true
	})
	_, err := newTestClient(t, quick).Pull(t.Context(), reg.host+"/app", amd64)
	if !errors.Is(err, snapshot.ErrDigest) || endless.Load() > 0 {
		t.Errorf("%v; %d layers of a gigabyte were read", err, endless.Load())
	}
}

func TestPullFromServerWithoutRanges(t *testing.T) {
	reg, a, img, _ := pushed(t)
	var broken atomic.Bool
	reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		r.Header.Del("Range")
		if isLayerGet(r) && broken.CompareAndSwap(false, true) {
			cut(w, r, next, 150_000)
			return true
		}
		return false
	})
	b := newTestClient(t, quick)
	sameImage(t, a, img, b, mustPull(t, b, reg.host+"/app"))
}

func TestPullStall(t *testing.T) {
	reg, a, img, _ := pushed(t)
	var stalled atomic.Int32
	release := make(chan struct{})
	reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !isLayerGet(r) || stalled.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-release:
		}
		return true
	})
	defer close(release)
	opts := quick
	opts.Timeouts.Stall = time.Second
	b := newTestClient(t, opts)
	sameImage(t, a, img, b, mustPull(t, b, reg.host+"/app"))
	if stalled.Load() < 2 {
		t.Error("nothing stalled")
	}
}

func TestHeaderStallIsUnreachable(t *testing.T) {
	isolate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // connections are taken by the kernel; nobody answers
	opts := quick
	opts.Timeouts = Timeouts{Dial: 100 * time.Millisecond, TLS: 100 * time.Millisecond, Header: 100 * time.Millisecond, Stall: 100 * time.Millisecond}
	opts.Retry.Attempts = 2
	start := time.Now()
	_, err = newTestClient(t, opts).Resolve(t.Context(), l.Addr().String()+"/x", amd64)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > fixtures.Patience {
		t.Errorf("gave up only after %v", d)
	}
}

func TestPassingFailures(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			reg, a, img, desc := pushed(t)
			var n atomic.Int32
			reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if n.Add(1)%2 == 1 {
					w.Header().Set("Retry-After", "1")
					http.Error(w, "later", status)
					return true
				}
				return false
			})
			b := newTestClient(t, quick)
			sameImage(t, a, img, b, mustPull(t, b, reg.host+"/app"))
			if got := mustPush(t, newClientOn(t, a.store, quick), reg.host+"/again", img); got.Digest != desc.Digest {
				t.Errorf("pushed %s, want %s", got.Digest, desc.Digest)
			}
		})
	}
}

func TestPushSurvivesBrokenUpload(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 2<<20)
	var patches atomic.Int32
	reg.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method == http.MethodPatch && patches.Add(1) <= 2 {
			io.CopyN(io.Discard, r.Body, 50_000)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	mustPush(t, c, reg.host+"/app", img)
	reg.setFault(nil)
	b := newTestClient(t, quick)
	sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))
}

func TestErrorKinds(t *testing.T) {
	reg, c, img, desc := pushed(t)
	blob, err := c.LayerBlob(t.Context(), img.Stack)
	if err != nil {
		t.Fatal(err)
	}
	small := blob.Digest
	var other bytes.Buffer // a sound layer, but another one
	zw := gzip.NewWriter(&other)
	if _, err := zw.Write(testTar(t, "other", 5000)); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	fixed := func(status int, body string) func(http.ResponseWriter, *http.Request, http.Handler) bool {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
			return true
		}
	}
	for name, tc := range map[string]struct {
		ref   string
		fault func(http.ResponseWriter, *http.Request, http.Handler) bool
		kind  error
		text  string
	}{
		"tag":         {"/app:none", nil, ErrNotFound, "none"},
		"repository":  {"/none", nil, ErrNotFound, ""},
		"401":         {"/app", fixed(401, ""), ErrUnauthorized, "credentials: none"},
		"403":         {"/app", fixed(403, `{"errors":[{"code":"DENIED","message":"not yours"}]}`), ErrUnauthorized, "DENIED: not yours"},
		"500":         {"/app", fixed(500, "<html>"), ErrUnreachable, "500 Internal Server Error"},
		"400":         {"/app", fixed(400, "bad thing"), ErrRefused, "bad thing"},
		"other bytes": {"/app@" + desc.Digest.String(), fixed(200, "{}"), ErrBadDigest, "got sha256:"},
		"no json":     {"/app", fixed(200, "hello"), ErrInvalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reg.setFault(tc.fault)
			defer reg.setFault(nil)
			ref := reg.host + tc.ref
			_, err := newTestClient(t, quick).Resolve(t.Context(), ref, amd64)
			if !errors.Is(err, tc.kind) || !strings.Contains(fmt.Sprint(err), tc.text) {
				t.Fatalf("%v; want %v with %q", err, tc.kind, tc.text)
			}
			for _, other := range []error{ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrBadDigest, ErrRefused} {
				if other != tc.kind && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
			var e *Error
			if tc.kind != ErrInvalid && (!errors.As(err, &e) || e.Host != reg.host) {
				t.Errorf("%v does not name the host", err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		_, err := newTestClient(t, quick).Resolve(t.Context(), "127.0.0.1:1/x", amd64)
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("%v", err)
		}
	})
	t.Run("layer with other bytes", func(t *testing.T) {
		reg.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if isLayerGet(r) && strings.HasSuffix(r.URL.Path, small.Encoded()) {
				w.Write(other.Bytes())
				return true
			}
			return false
		})
		defer reg.setFault(nil)
		if _, err := newTestClient(t, quick).Pull(t.Context(), reg.host+"/app", amd64); !errors.Is(err, ErrBadDigest) {
			t.Errorf("%v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newTestClient(t, quick).Resolve(ctx, reg.host+"/app", amd64)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func TestDamagedMetadataIsFetchedAgain(t *testing.T) {
	reg, _, _, desc := pushed(t)
	c := newTestClient(t, quick)
	ref := reg.host + "/app@" + desc.Digest.String()
	first, err := c.Resolve(t.Context(), ref, amd64)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{first.Digest(), digest.FromBytes(first.RawConfig)} {
		if err := os.WriteFile(c.store.Blobs().Path(d), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		second, err := c.Resolve(t.Context(), ref, amd64)
		if err != nil || second.Digest() != desc.Digest {
			t.Fatalf("%+v, %v", second, err)
		}
		if _, err := c.store.Blobs().ReadAll(d); err != nil {
			t.Errorf("the damage is still there: %v", err)
		}
	}
}

func TestMirrors(t *testing.T) {
	origin, a, img, _ := pushed(t)
	full, empty, broken := newTestRegistry(t), newTestRegistry(t), newTestRegistry(t)
	mustPush(t, a, full.host+"/cache/app", img)
	broken.Close()
	lying := newTestRegistry(t)
	lying.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		if isLayerGet(r) { // of the right length
			w.Write(make([]byte, 10<<20))
			return true
		}
		w.Header().Set("Docker-Content-Digest", digest.FromString("something else").String())
		io.WriteString(w, "{}")
		return true
	})
	for name, tc := range map[string]struct {
		mirrors    []string
		fromOrigin bool
	}{
		"mirror has it":         {[]string{full.URL + "/cache"}, false},
		"mirror lacks it":       {[]string{empty.URL}, true},
		"mirror is down":        {[]string{broken.URL}, true},
		"mirror lies":           {[]string{lying.URL}, true},
		"the second one has it": {[]string{broken.URL, empty.URL, full.URL + "/cache"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			origin.take()
			opts := quick
			for _, m := range tc.mirrors {
				opts.Mirrors = append(opts.Mirrors, origin.host+"="+m)
			}
			b := newTestClient(t, opts)
			got := mustPull(t, b, origin.host+"/app")
			sameImage(t, a, img, b, got)
			if asked := len(origin.take()) > 0; asked != tc.fromOrigin {
				t.Errorf("origin asked: %v, want %v", asked, tc.fromOrigin)
			}
			if got.Names[0] != origin.host+"/app:latest" {
				t.Errorf("name %q", got.Names[0])
			}
		})
	}
	t.Run("a mirror that hangs costs once", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int32
		done := make(chan struct{})
		go func() { // takes connections and never answers
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				asked.Add(1)
				defer c.Close()
			}
		}()
		defer func() { l.Close(); <-done }()
		opts := quick
		opts.Timeouts = Timeouts{Dial: 500 * time.Millisecond, TLS: time.Millisecond, Header: 500 * time.Millisecond, Stall: 10 * time.Second}
		opts.Mirrors = []string{origin.host + "=http://" + l.Addr().String()}
		b := newTestClient(t, opts)
		sameImage(t, a, img, b, mustPull(t, b, origin.host+"/app"))
		// Manifest, configuration and two layers would be four times two.
		if n := asked.Load(); n < 1 || n > 2 {
			t.Errorf("the mirror was asked %d times", n)
		}
	})
	t.Run("push goes to the origin", func(t *testing.T) {
		opts := quick
		opts.Mirrors = []string{origin.host + "=" + empty.URL}
		empty.take()
		mustPush(t, newClientOn(t, a.store, opts), origin.host+"/app2", img)
		if reqs := empty.take(); len(reqs) != 0 {
			t.Errorf("the mirror got %v", reqs)
		}
	})
}
