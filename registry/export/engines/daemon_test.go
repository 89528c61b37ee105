package engines

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/fixtures"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/exporttest"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/snapshot"
)

// fakeDocker is what of docker's API loading an image needs. As docker, it takes an
// archive that lacks layers it has (tarexport, "load").
type fakeDocker struct {
	mu     sync.Mutex
	images map[digest.Digest][]digest.Digest // diff ids by id
	names  map[string]digest.Digest
	loads  []int // layers in each archive
	whole  bool  // wants all layers
	// blobs is what it has if it keeps manifests, see keepManifests.
	blobs map[digest.Digest][]byte
	says  string // about what it loaded
}

func startDocker(t *testing.T) (*fakeDocker, Daemon) {
	t.Helper()
	f := &fakeDocker{images: map[digest.Digest][]digest.Digest{}, names: map[string]digest.Digest{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", f.info)
	mux.HandleFunc("GET /images/json", f.list)
	mux.HandleFunc("GET /images/{id}/json", f.inspect)
	mux.HandleFunc("POST /images/{id}/tag", f.tag)
	mux.HandleFunc("POST /images/load", f.load)
	sock := filepath.Join(fixtures.ShortDir(t), "d.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return f, Daemon{Host: "unix://" + sock}
}

func (f *fakeDocker) list(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []map[string]string{}
	for id := range f.images {
		out = append(out, map[string]string{"Id": id.String()})
	}
	json.NewEncoder(w).Encode(out)
}

func (f *fakeDocker) inspect(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := digest.Digest(r.PathValue("id"))
	layers, ok := f.images[id]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"message":"No such image"}`)
		return
	}
	doc := map[string]any{"Id": id, "RootFS": map[string]any{"Type": "layers", "Layers": layers}}
	if f.blobs != nil && r.FormValue("manifests") == "1" {
		doc["Manifests"] = []any{map[string]any{"Available": f.available(id)}}
	}
	json.NewEncoder(w).Encode(doc)
}

func (f *fakeDocker) tag(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[r.FormValue("repo")+":"+r.FormValue("tag")] = digest.Digest(r.PathValue("id"))
	w.WriteHeader(http.StatusCreated)
}

func (f *fakeDocker) load(w http.ResponseWriter, r *http.Request) {
	if err := f.take(r.Body); err != nil {
		json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
		return
	}
	if f.says == "" {
		f.says = `{"stream":"Loaded image"}`
	}
	io.WriteString(w, f.says)
}

func (f *fakeDocker) take(r io.Reader) error {
	files := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			return err
		}
	}
	if f.blobs != nil {
		return f.takeLayout(files)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var images []struct {
		Config           string
		Layers, RepoTags []string
	}
	if err := json.Unmarshal(files["manifest.json"], &images); err != nil {
		return err
	}
	n := 0
	for _, m := range images {
		var cfg registry.ImageConfig
		if err := json.Unmarshal(files[m.Config], &cfg); err != nil {
			return err
		}
		var stack snapshot.Stack
		for i, diff := range cfg.RootFS.DiffIDs {
			stack = append(stack, snapshot.Layer{DiffID: snapshot.DiffID(diff)})
			if data, ok := files[m.Layers[i]]; ok {
				if digest.FromBytes(data) != diff {
					return fmt.Errorf("layer %s is another one", diff)
				}
				n++
			} else if f.whole || !f.chain(stack.ChainID()) {
				return fmt.Errorf("open %s: no such file or directory", m.Layers[i])
			}
		}
		f.images[digest.FromBytes(files[m.Config])] = cfg.RootFS.DiffIDs
		for _, name := range m.RepoTags {
			f.names[name] = digest.FromBytes(files[m.Config])
		}
	}
	f.loads = append(f.loads, n)
	return nil
}

func (f *fakeDocker) chain(want snapshot.ChainID) bool {
	for _, layers := range f.images {
		var stack snapshot.Stack
		for _, l := range layers {
			if stack = append(stack, snapshot.Layer{DiffID: snapshot.DiffID(l)}); stack.ChainID() == want {
				return true
			}
		}
	}
	return false
}

func TestLoadDaemonSendsWhatIsLacking(t *testing.T) {
	f, d := startDocker(t)
	c := exporttest.NewClient(t)
	base := exporttest.NewImage(t, c, "base", "one", "two")
	app := exporttest.NewImage(t, c, "base", "one", "two", "three")
	load := func(img *registry.Image, names []string, want int) {
		t.Helper()
		sent, err := LoadDaemon(t.Context(), d, c, layout.Item{Image: img, Names: names})
		if err != nil || sent != want {
			t.Fatalf("sent %d layers, %v; want %d", sent, err, want)
		}
		for _, n := range names {
			ref, err := registry.ParseReference(n)
			if err != nil {
				t.Fatal(err)
			}
			if f.names[ref.Familiar()] != img.ID && f.names[ref.String()] != img.ID {
				t.Errorf("%s is not %s: %v", n, img.ID, f.names)
			}
		}
	}
	load(base, []string{"base:1"}, len(base.Stack))
	load(app, []string{"app:1", "example.com/app:2"}, 1)
	load(app, []string{"again:1"}, 0)
	if want := []int{len(base.Stack), 1}; !slices.Equal(f.loads, want) {
		t.Errorf("archives with %v layers, want %v", f.loads, want)
	}
	// An engine that wants whole archives gets them.
	f.whole = true
	other := exporttest.NewImage(t, c, "base", "one", "two", "four")
	load(other, nil, len(other.Stack))
	if len(f.images) != 3 {
		t.Errorf("%d images", len(f.images))
	}
}

func TestLoadDaemonErrors(t *testing.T) {
	c := exporttest.NewClient(t)
	img := exporttest.NewImage(t, c, "base", "one")
	_, err := LoadDaemon(t.Context(), Daemon{Host: "unix:///nowhere/d.sock"}, c, layout.Item{Image: img})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/d.sock") {
		t.Errorf("%v", err)
	}
	if _, err = LoadDaemon(t.Context(), Daemon{Host: "ssh://x"}, c, layout.Item{Image: img}); err == nil || !strings.Contains(err.Error(), "ssh://x") {
		t.Errorf("%v", err)
	}
	f, d := startDocker(t)
	f.images = nil // loading panics: the connection breaks
	if _, err = LoadDaemon(t.Context(), d, c, layout.Item{Image: img}); err == nil {
		t.Error("no error")
	}
	// A daemon that says why not.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"message":"not allowed by policy"}`)
	}))
	defer srv.Close()
	d = Daemon{Host: strings.Replace(srv.URL, "http", "tcp", 1)}
	if _, err = LoadDaemon(t.Context(), d, c, layout.Item{Image: img}); err == nil || !strings.Contains(err.Error(), "not allowed by policy") {
		t.Errorf("%v", err)
	}
}

func TestServeNeedsThePassword(t *testing.T) {
	c := exporttest.NewClient(t)
	img := exporttest.NewImage(t, c, "base", "one")
	s, err := Serve(t.Context(), c, img)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func(path, password string) (int, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(s.User, password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	layer := digest.Digest(img.Stack[0].DiffID)
	if code, body := get("/v2/image/blobs/"+layer.String(), s.Password); code != http.StatusOK || digest.FromBytes(body) != layer {
		t.Errorf("%d, %d bytes", code, len(body))
	}
	for _, path := range []string{"/v2/", "/v2/image/manifests/x", "/v2/image/blobs/" + layer.String()} {
		if code, _ := get(path, "guess"); code != http.StatusUnauthorized {
			t.Errorf("%s with another password: %d", path, code)
		}
	}
}
