package containerd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures"
	"layered.build/builder/registry"
	"layered.build/builder/registry/grpc"
	"layered.build/builder/snapshot"
)

func newClient(t *testing.T) *registry.Client {
	t.Helper()
	store, err := snapshot.Open(t.TempDir(), snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	images, err := registry.OpenImages(store)
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.New(store, images, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// emptyImage has no layers: a manifest and a configuration.
func emptyImage(t *testing.T) *registry.Index {
	t.Helper()
	in := registry.AssembleInput{}
	in.Config.OS, in.Config.Architecture = "linux", "amd64"
	in.Config.Config.Env = []string{"TEST=" + t.Name()}
	img, err := registry.Assemble(in)
	if err != nil {
		t.Fatal(err)
	}
	return &registry.Index{Images: []*registry.Image{img}}
}

func TestLoad(t *testing.T) {
	f, e := startFake(t)
	c, x := newClient(t), emptyImage(t)
	for i := range 2 { // the second time the names are there
		if _, err := Load(t.Context(), e, c, x, []string{"app:1", "example.com/app:2"}); err != nil {
			t.Fatal(err)
		}
		if n := f.took("content.v1.Content/Write"); n != 2 {
			t.Errorf("load %d: %d blobs were written, want the manifest and the configuration once", i, n)
		}
	}
	names := slices.Sorted(maps.Keys(f.images))
	if want := []string{"docker.io/library/app:1", "example.com/app:2"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	manifest := f.images["example.com/app:2"]
	if got := f.blobs[manifest]["containerd.io/gc.ref.content.config"]; got != x.Images[0].ID.String() {
		t.Errorf("the manifest %s refers to the configuration %q", manifest, got)
	}
	if len(f.leases) > 0 {
		t.Errorf("leases are left: %v", f.leases)
	}
}

// TestLoadFails looks at what a load says and leaves when containerd does not do
// what it should.
func TestLoadFails(t *testing.T) {
	answer := func(f func(w http.ResponseWriter)) func(http.ResponseWriter, string) bool {
		return func(w http.ResponseWriter, method string) bool {
			if method != "images.v1.Images/Create" {
				return false
			}
			w.Header().Set("Content-Type", "application/grpc")
			f(w)
			return true
		}
	}
	for name, c := range map[string]struct {
		method  string
		refuse  *grpc.Status
		special func(w http.ResponseWriter, method string) bool
		text    string
		is      error
		connect bool
	}{
		"namespace":  {method: "leases.v1.Leases/Create", refuse: &grpc.Status{Code: grpc.InvalidArgument, Text: "identifier \"a b\""}, text: "identifier \"a b\"", is: registry.ErrInvalid},
		"forbidden":  {method: "images.v1.Images/Create", refuse: &grpc.Status{Code: 7, Text: "100% forbidden ä"}, text: "100% forbidden ä"},
		"no reason":  {method: "images.v1.Images/Create", refuse: &grpc.Status{Code: 13}, text: "gRPC status 13"},
		"web server": {special: func(w http.ResponseWriter, _ string) bool { w.WriteHeader(404); return true }, text: "404", is: grpc.ErrNotGRPC, connect: true},
		"no status":  {special: answer(func(w http.ResponseWriter) { w.Write(grpc.Frame(nil)) }), text: "no status", is: grpc.ErrNotGRPC},
		"no message": {special: answer(func(w http.ResponseWriter) { w.Header().Set("Grpc-Status", "0") }), text: "without an answer", is: grpc.ErrNotGRPC},
		"cut":        {special: answer(func(w http.ResponseWriter) { w.Write([]byte{0, 0, 0, 0, 9, 1}) }), text: "broke", is: io.ErrUnexpectedEOF},
		"too large":  {special: answer(func(w http.ResponseWriter) { w.Write([]byte{0, 255, 0, 0, 0}) }), text: "a message with the head", is: grpc.ErrNotGRPC},
		"compressed": {special: answer(func(w http.ResponseWriter) { w.Write([]byte{1, 0, 0, 0, 0}) }), text: "a message with the head", is: grpc.ErrNotGRPC},
	} {
		t.Run(name, func(t *testing.T) {
			f, e := startFake(t)
			f.special = c.special
			if c.refuse != nil {
				f.refuse[c.method] = c.refuse
			}
			_, err := Load(t.Context(), e, newClient(t), emptyImage(t), []string{"app:1"})
			var connect *ConnectError
			if err == nil || !strings.Contains(err.Error(), c.text) || c.is != nil && !errors.Is(err, c.is) || errors.As(err, &connect) != c.connect {
				t.Errorf("error %v, want %q", err, c.text)
			}
			if len(f.images) > 0 || len(f.leases) > 0 {
				t.Errorf("left: %v %v", f.images, f.leases)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		_, err := Load(t.Context(), Endpoint{Address: t.TempDir() + "/none"}, newClient(t), emptyImage(t), nil)
		var connect *ConnectError
		if !errors.As(err, &connect) {
			t.Errorf("error %v, want one of connecting", err)
		}
	})
	t.Run("address", func(t *testing.T) {
		_, err := Load(t.Context(), Endpoint{Address: "tcp://127.0.0.1:1"}, newClient(t), emptyImage(t), nil)
		if !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("error %v, want an invalid address", err)
		}
	})
}

func putBlob(t *testing.T, f *fake, data []byte, desc ocispec.Descriptor) (int64, *opening, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fixtures.Patience)
	defer cancel()
	c := dial(f.socket, "default")
	defer c.close()
	o := &opening{data: data}
	n, err := c.put(ctx, blob{desc: desc, open: o.open, seen: func(int64) {}})
	return n, o, err
}

func describe(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// TestPut sends a blob of several messages that somebody else sends at first, and of
// which a part is there.
func TestPut(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), chunk/16*5/2)
	desc := describe(data)
	f, _ := startFake(t)
	f.refuse["content.v1.Content/Write"] = &grpc.Status{Code: grpc.Unavailable, Text: "ref x locked: unavailable"}
	f.begun[writeRef(desc)] = data[:1000:1000]
	n, o, err := putBlob(t, f, data, desc)
	if err != nil || n != desc.Size-1000 || !slices.Equal(o.from, []int64{1000}) {
		t.Errorf("sent %d from %d: %v; want the rest after 1000", n, o.from, err)
	}
	if f.blobs[desc.Digest] == nil {
		t.Error("the blob is not there")
	}
}

// TestPutExists takes a blob that came meanwhile for sent.
func TestPutExists(t *testing.T) {
	f, _ := startFake(t)
	f.refuse["content.v1.Content/Write"] = &grpc.Status{Code: grpc.AlreadyExists, Text: "content: already exists"}
	if n, o, err := putBlob(t, f, []byte("x"), describe([]byte("x"))); err != nil || n != 0 || o.from != nil {
		t.Errorf("sent %d, opened %d: %v", n, o.from, err)
	}
}

// TestPutDamaged leaves nothing to go on with of a blob that is not what its name
// says.
func TestPutDamaged(t *testing.T) {
	data := []byte("some data")
	for name, c := range map[string]struct {
		data  []byte
		begun string
	}{
		"other data": {data: []byte("some dato")},
		"beginning":  {data: data, begun: "something else"},
		"too short":  {data: data[:4]},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := startFake(t)
			if c.begun != "" {
				f.begun[writeRef(describe(data))] = []byte(c.begun)
			}
			if _, _, err := putBlob(t, f, c.data, describe(data)); !errors.Is(err, registry.ErrBadDigest) {
				t.Errorf("error %v, want a bad digest", err)
			}
			if len(f.begun) > 0 || len(f.blobs) > 0 {
				t.Errorf("left: %q %v", f.begun, f.blobs)
			}
		})
	}
}

func TestSourceLabels(t *testing.T) {
	refs := []registry.Reference{
		{Domain: "docker.io", Path: "library/a"}, {Domain: "docker.io", Path: "library/b"}, {Domain: "example.com", Path: "c"},
		{Domain: "docker.io", Path: strings.Repeat("d", maxLabel)},
	}
	want := map[string]string{
		"containerd.io/distribution.source.docker.io": "library/a,library/b", "containerd.io/distribution.source.example.com": "c",
	}
	if got := sourceLabels(refs); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestChildLabels(t *testing.T) {
	got, err := childLabels([]byte(`{"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:a"},{"digest":"sha256:b"}],"manifests":[{"digest":"sha256:m"}]}`))
	const prefix = "containerd.io/gc.ref.content."
	want := map[string]string{prefix + "config": "sha256:c", prefix + "l.0": "sha256:a", prefix + "l.1": "sha256:b", prefix + "m.0": "sha256:m"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
