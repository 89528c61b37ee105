package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc"
	"layered.build/builder/executor/source"
	"layered.build/builder/fixtures"
	"layered.build/builder/fixtures/stock"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/registry/export/tree"
)

func TestMain(m *testing.M) {
	runc.Init()
	goleak.VerifyTestMain(m)
}

// client is one of those who share a process: everything that it has is called as that of
// the others.
type client struct {
	name   string
	grants dag.Grants
	dir    string // its context
	sinks  *memory
	events []string
	mu     sync.Mutex // guards events
	hook   func(executor.Event)
	caches build.Caches
	// nothingOut: nothing is exported.
	nothingOut bool
	// alter, unless nil, changes what is asked for.
	alter func(*build.Request, *build.Definition)
	// product is what the last build made.
	product *build.Product
}

func (c *client) observe(ev executor.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hook != nil {
		c.hook(ev)
	}
	if ev.Step != nil {
		c.events = append(c.events, string(ev.Type)+" "+ev.Step.Meta.Name+" "+string(ev.Data))
	}
}

// Get implements credentials.Source.
func (c *client) Get(context.Context, string, string) (credentials.Credential, error) {
	return credentials.Login(c.name, "password of "+c.name, "the test's"), nil
}

// Secret implements executor.Secrets.
func (c *client) Secret(_ context.Context, id string) ([]byte, error) {
	if id != "token" {
		return nil, fs.ErrNotExist
	}
	return []byte("the secret of " + c.name), nil
}

// memory takes files of exporters.
type memory struct {
	mu    sync.Mutex // guards files
	files map[string][]byte
}

// File implements export.Sinks.
func (m *memory) File(_ context.Context, dest string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[dest] = b.Bytes()
	return nil
}

// Layout implements export.Sinks.
func (m *memory) Layout(context.Context, string, func(layout.Sink) error) error {
	return errors.New("not here")
}

// Folder implements export.Sinks.
func (m *memory) Folder(context.Context, string, tree.Set, bool) error { return errors.New("not here") }

// twoFaced is a registry that has another image under the same name for each user.
func twoFaced(t *testing.T, names ...string) string {
	t.Helper()
	behind := map[string]http.Handler{}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		l, err := stock.NewLayer("gzip",
			stock.Entry{Name: "bin/", Type: tar.TypeDir}, stock.Entry{Name: "bin/busybox", Mode: 0o755, Data: program},
			stock.Entry{Name: "bin/sh", Type: tar.TypeSymlink, Link: "busybox"},
			stock.Entry{Name: "base", Data: []byte("the base of " + name)})
		if err != nil {
			t.Fatal(err)
		}
		img := &stock.Image{Layers: []stock.Layer{l}, Config: `{"Env":["PATH=/bin"]}`}
		if behind[name], err = img.Serve(); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		h := behind[user]
		if h == nil || password != "password of "+user {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// build builds a Dockerfile for a client, and exports a tar to its sinks.
func (c *client) build(ctx context.Context, h *engine.Host, host, dockerfile string) (err error) {
	e, err := h.Open(ctx, engine.Access{Insecure: []string{host}, Credentials: c})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	spec, err := export.ParseSpec("type=tar,dest=result")
	if err != nil {
		return err
	}
	out, err := export.Parse(spec)
	if err != nil {
		return err
	}
	exporters := []export.Exporter{out}
	if c.nothingOut {
		exporters = nil
	}
	contexts := &source.Contexts{Dirs: map[string]string{"context": c.dir}}
	defer func() { err = errors.Join(err, contexts.Close()) }()
	req := build.Request{
		Plan:      planner.Options{BuildPlatform: binfmt.Local(), CanRun: binfmt.Machine{Own: binfmt.Local()}.CanRun},
		Exporters: exporters,
		Grants:    c.grants,
	}
	def := &build.Definition{Name: "Dockerfile", Source: []byte(dockerfile)}
	if c.alter != nil {
		c.alter(&req, def)
	}
	c.product, err = build.New(e, req, build.Inputs{
		Definition: func(context.Context, executor.Observer) (*build.Definition, error) { return def, nil },
		Contexts:   contexts,
		Renew:      contexts.Renew,
		Secrets:    c,
		Sinks:      c.sinks,
		Caches:     c.caches,
	}, c.observe).Run(ctx, nil)
	return err
}

func newHost(t *testing.T) *engine.Host {
	t.Helper()
	return newHostAt(t, filepath.Join(t.TempDir(), "store"))
}

func newHostAt(t *testing.T, root string) *engine.Host {
	t.Helper()
	h, err := engine.NewHost(engine.Options{
		Root: root, Rung: engine.Rung{Isolation: rootless.Root},
		Warn: func(text string) { t.Error("warning:", text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newClient(t *testing.T, name string, granted ...dag.Permission) *client {
	t.Helper()
	c := &client{name: name, dir: t.TempDir(), grants: dag.Grant(granted...), sinks: &memory{files: map[string][]byte{}}}
	fixtures.WriteFiles(t, c.dir, "file", "the file of "+name)
	return c
}

// content is a file of the tar that was exported.
func (c *client) content(t *testing.T, name string) string {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(c.sinks.files["result"]))
	for {
		h, err := tr.Next()
		if err != nil {
			t.Fatalf("%s of %s: %v", name, c.name, err)
		}
		if h.Name == name {
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
	}
}

// TestBuildsOfOneProcess proves that two builds at once in one process see nothing of each
// other, although their contexts, images, secrets and outputs have the same names: neither
// credentials nor files, secrets, permissions, events or results.
func TestBuildsOfOneProcess(t *testing.T) {
	fixtures.NeedOverlay(t)
	fixtures.NeedRealRoot(t, "it runs containers")
	fixtures.NeedProgram(t, "busybox")
	host := twoFaced(t, "a", "b")
	h := newHost(t)
	const dockerfile = `FROM %s/base:1
COPY file /file
RUN --mount=type=secret,id=token,required md5sum < /run/secrets/token | cut -d' ' -f1 > /sum && echo I am $(cat /base)
`
	const asking = "FROM %s/base:1\nRUN --network=host echo on the network > /net\n"
	clients := []*client{newClient(t, "a", dag.PermissionNetworkHost), newClient(t, "b")}
	for round := range 3 { // the later ones find a full cache
		var wg sync.WaitGroup
		for _, c := range clients {
			c.events = nil
			wg.Go(func() {
				if err := c.build(t.Context(), h, host, fmt.Sprintf(dockerfile, host)); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
		wg.Wait()
		for _, c := range clients {
			sum := md5.Sum([]byte("the secret of " + c.name))
			for name, want := range map[string]string{
				"base": "the base of " + c.name, "file": "the file of " + c.name, "sum": hex.EncodeToString(sum[:]) + "\n",
			} {
				if got := c.content(t, name); got != want {
					t.Errorf("round %d: %s of %s holds %q, want %q", round, name, c.name, got, want)
				}
			}
			other := map[string]string{"a": "b", "b": "a"}[c.name]
			if all := strings.Join(c.events, "\n"); strings.Contains(all, "the base of "+other) || round == 0 && !strings.Contains(all, "I am the base of "+c.name) {
				t.Errorf("round %d: %s was told\n%s", round, c.name, all)
			}
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(clients))
	for i, c := range clients {
		wg.Go(func() { errs[i] = c.build(t.Context(), h, host, fmt.Sprintf(asking, host)) })
	}
	wg.Wait()
	if errs[0] != nil || !errors.Is(errs[1], executor.ErrNotAllowed) {
		t.Errorf("granted: %v; not granted: %v", errs[0], errs[1])
	}
	if got := clients[0].content(t, "net"); got != "on the network\n" {
		t.Errorf("granted: /net holds %q", got)
	}
}

// TestStrangersCredentials proves that what one client's credentials fetched is not shown
// to one whose credentials the registry does not take.
func TestStrangersCredentials(t *testing.T) {
	fixtures.NeedOverlay(t)
	fixtures.NeedRealRoot(t, "it runs containers")
	fixtures.NeedProgram(t, "busybox")
	host := twoFaced(t, "a")
	h := newHost(t)
	dockerfile := fmt.Sprintf("FROM %s/base:1\nCOPY file /file\n", host)
	if err := newClient(t, "a").build(t.Context(), h, host, dockerfile); err != nil {
		t.Fatal(err)
	}
	stranger := newClient(t, "stranger")
	if err := stranger.build(t.Context(), h, host, dockerfile); err == nil {
		t.Errorf("a stranger got %q", stranger.content(t, "base"))
	}
}

// TestEndedDefinition proves that a build ends with its context while it waits for what it
// is to build.
func TestEndedDefinition(t *testing.T) {
	h := newHost(t)
	e, err := h.Open(t.Context(), engine.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = build.New(e, build.Request{}, build.Inputs{
		Definition: func(ctx context.Context, _ executor.Observer) (*build.Definition, error) {
			cancel(gone)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
	}, func(executor.Event) {}).Plan(ctx)
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}
