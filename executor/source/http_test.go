package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// site is a server that notes what it is asked.
type site struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	log     []string
	handler http.HandlerFunc
}

func newSite(t *testing.T, h http.HandlerFunc) *site {
	s := &site{handler: h}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		line := r.Method + " " + r.URL.Path
		if v := r.Header.Get("If-None-Match"); v != "" {
			line += " if-none-match " + v
		}
		if v := r.Header.Get("Authorization"); v != "" {
			line += " authorization " + v
		}
		if ua := r.UserAgent(); strings.HasPrefix(ua, "builder/") && !strings.Contains(ua, "buildkit/v") {
			line += " agent " + ua
		}
		s.log = append(s.log, line)
		h := s.handler
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// requests returns what was asked since the last call.
func (s *site) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.log, "\n")
	s.log = nil
	return out
}

func (s *site) set(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

type fakeSecrets map[string]string

func (f fakeSecrets) Secret(_ context.Context, id string) ([]byte, error) {
	if v, ok := f[id]; ok {
		return []byte(v), nil
	}
	return nil, fmt.Errorf("secret %s: %w", id, fs.ErrNotExist)
}

func newRemote(t *testing.T, o RemoteOptions) *Remote {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Version = "test"
	if o.Retry == (Retry{}) {
		o.Retry = Retry{Wait: time.Millisecond, MaxWait: 5 * time.Millisecond}
	}
	r, err := NewRemote(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func openRemote(t *testing.T, r *Remote, src *dag.Source) *executor.Remote {
	t.Helper()
	got, err := r.Open(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// files reads all regular files of a remote: "path mode content".
func listFiles(t *testing.T, r *executor.Remote) []string {
	t.Helper()
	tree, err := r.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := tree.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch e.Type {
			case snapshot.TypeDir:
				walk(e.Path)
			case snapshot.TypeSymlink:
				out = append(out, e.Path+" -> "+e.Linkname)
			default:
				f, err := tree.Open(e.Path)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(f)
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				d, err := tree.Digest(e.Path)
				if err != nil || d != digest.FromBytes(b) {
					t.Errorf("%s: digest %s, %v", e.Path, d, err)
				}
				out = append(out, fmt.Sprintf("%s %04o %s", e.Path, e.Mode, strings.TrimSuffix(string(b), "\n")))
			}
		}
	}
	walk(".")
	return out
}

func httpSrc(url string) *dag.Source {
	return &dag.Source{HTTP: &dag.HTTPSource{URL: url, Filename: "f"}}
}

func serve(body, etag, modified string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		if modified != "" {
			w.Header().Set("Last-Modified", modified)
		}
		if etag != "" && strings.Contains(r.Header.Get("If-None-Match"), strings.TrimPrefix(etag, "W/")) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, body)
	}
}

// TestHTTPRevalidation: the first build sends GET, the second HEAD with the ETag
// and nothing more; a changed file is asked for again, an old version is known.
func TestHTTPRevalidation(t *testing.T) {
	const modified = "Wed, 21 Oct 2015 07:28:00 GMT"
	s := newSite(t, serve("one", `W/"1"`, modified))
	dir := t.TempDir()
	build := func() *executor.Remote {
		return openRemote(t, newRemote(t, RemoteOptions{Dir: dir}), httpSrc(s.URL+"/f"))
	}

	first := build()
	if got := listFiles(t, first); !slices.Equal(got, []string{"f 0600 one"}) {
		t.Error(got)
	}
	tree, err := first.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e, err := tree.Lstat("f"); err != nil || e.ModTime.Format(http.TimeFormat) != strings.Replace(modified, "GMT", "GMT", 1) {
		t.Errorf("mtime %v, %v", e.ModTime, err)
	}
	if got := s.requests(); got != "GET /f" {
		t.Errorf("first build: %s", got)
	}
	if second := build(); second.Name != first.Name {
		t.Error("an unchanged file got another name")
	}
	if got := s.requests(); got != `HEAD /f if-none-match "1"` {
		t.Errorf("second build: %s", got)
	}
	s.set(serve("two", `"2"`, modified))
	changed := build()
	if got := listFiles(t, changed); changed.Name == first.Name || !slices.Equal(got, []string{"f 0600 two"}) {
		t.Error(got)
	}
	if got := s.requests(); got != "HEAD /f if-none-match \"1\"\nGET /f if-none-match \"1\"" {
		t.Errorf("changed file: %s", got)
	}
	s.set(serve("one", `"1"`, modified))
	if back := build(); back.Name != first.Name {
		t.Error("the first version got another name when it came back")
	}
	if got := s.requests(); got != `HEAD /f if-none-match "2", "1"` {
		t.Errorf("old version: %s", got)
	}
	os.RemoveAll(dir + "/" + httpBlobs)
	os.Mkdir(dir+"/"+httpBlobs, 0o700)
	if got := listFiles(t, build()); !slices.Equal(got, []string{"f 0600 one"}) {
		t.Errorf("after the contents were lost: %v", got)
	}
	if got := s.requests(); got != "GET /f" {
		t.Errorf("after the contents were lost: %s", got)
	}
}

// TestHTTPName: the name of a source holds what BuildKit's key holds.
func TestHTTPName(t *testing.T) {
	s := newSite(t, serve("x", "", ""))
	name := func(src *dag.Source) digest.Digest {
		return openRemote(t, newRemote(t, RemoteOptions{}), src).Name
	}
	plain := name(httpSrc(s.URL + "/a"))
	if name(httpSrc(s.URL+"/b")) != plain {
		t.Error("the URL counts")
	}
	sum := httpSrc(s.URL + "/c")
	sum.HTTP.Checksum = digest.FromString("x").String()
	s.requests()
	if name(sum) != plain {
		t.Error("--checksum counts")
	}
	if got := s.requests(); got != "" {
		t.Errorf("a source with a checksum was asked for: %s", got)
	}
	s.set(serve("x", "", "Wed, 21 Oct 2015 07:28:00 GMT"))
	if name(httpSrc(s.URL+"/a")) == plain {
		t.Error("Last-Modified does not count")
	}
}

// TestHTTPErrors: what is wrong is named, and no secret is.
func TestHTTPErrors(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "short")
		case "/file":
			io.WriteString(w, "content")
		default:
			http.Error(w, "no", http.StatusForbidden)
		}
	})
	secrets := fakeSecrets{httpTokenSecret + "127.0.0.1": "geheim"}
	dir := t.TempDir()
	for url, want := range map[string]string{
		s.URL + "/gone": "download " + s.URL + "/gone: invalid response status 403 Forbidden",
		strings.Replace(s.URL, "//", "//me:geheim@", 1) + "/x": "invalid response status 403",
		"http://127.0.0.1:1/x":                                 "download http://127.0.0.1:1/x: dial tcp 127.0.0.1:1: connect: connection refused",
		s.URL + "/cut":                                         "download " + s.URL + "/cut: unexpected EOF",
	} {
		_, err := newRemote(t, RemoteOptions{Dir: dir, Secrets: secrets}).Open(t.Context(), httpSrc(url))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if left, _ := os.ReadDir(dir + "/" + httpBlobs); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if log := s.requests(); !strings.Contains(log, "authorization Bearer geheim") {
		t.Errorf("the secret was not sent: %s", log)
	}

	wrong := httpSrc(s.URL + "/file")
	wrong.HTTP.Checksum = digest.FromString("other").String()
	_, err := openRemote(t, newRemote(t, RemoteOptions{}), wrong).Files(t.Context())
	var sum *ChecksumError
	if !errors.As(err, &sum) || sum.Got != digest.FromString("content") {
		t.Errorf("wrong checksum: %v", err)
	}
}

// TestHTTPCancel: a build that ends does not wait for a server.
func TestHTTPCancel(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { close(asked); <-release })
	defer close(release)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go func() { <-asked; cancel(why) }()
	if _, err := newRemote(t, RemoteOptions{}).Open(ctx, httpSrc(s.URL)); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestFileName(t *testing.T) {
	for _, c := range []struct{ url, disposition, want string }{
		{"https://h/a/b.tar", "", "b.tar"},
		{"https://h/", "", "download"},
		{"https://h", "", "download"},
		{"https://h/..", "", "download"},
		{"https://h/a%2f..%2f..%2fb", "", "b"},
		{"https://h/a%0ab", "", "download"},
		{"https://h/x?y=/z", "", "x"},
		{"https://h/x", `attachment; filename="y.zip"`, "y.zip"},
		{"https://h/x", `attachment; filename="../../etc/passwd"`, "passwd"},
		{"https://h/x", `attachment; filename=".."`, "download"},
		{"https://h/caf%E9", "", "caf\uFFFD"},
		{"https://h/x", `attachment; filename="dir/"`, "x"},
		{"https://h/x", `nonsense;;`, "x"},
	} {
		if got := fileName(c.url, c.disposition); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.url, c.disposition, got, c.want)
		}
	}
}

// TestExpire: what nobody used for long goes, what is used or held stays.
func TestExpire(t *testing.T) {
	s := newSite(t, serve("x", `"1"`, ""))
	dir := t.TempDir()
	r := newRemote(t, RemoteOptions{Dir: dir})
	e := openRemote(t, r, httpSrc(s.URL+"/f"))
	r.expire(time.Now().Add(-time.Hour))
	if got := listFiles(t, e); !slices.Equal(got, []string{"f 0600 x"}) {
		t.Error(got)
	}
	r.expire(time.Now().Add(time.Hour))
	if left, _ := os.ReadDir(dir + "/" + httpBlobs); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
