package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newHost is a process whose store is below dir.
func newHost(t *testing.T, dir string, env map[string]string) *engine.Host {
	t.Helper()
	h, err := engine.NewHost(engine.Options{
		Root: filepath.Join(dir, "store"), Rung: engine.Rung{Isolation: rootless.Root},
		Getenv: func(name string) string { return env[name] },
		Warn: func(text string) {
			if env["BUILDER_MAX_USED_SPACE"] != "1b" || !strings.Contains(text, "max-used-space") { // of which nothing comes
				t.Error(text)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// open opens the store; the caller closes the engine.
func open(t *testing.T, h *engine.Host) *engine.Engine {
	t.Helper()
	e, err := h.Open(t.Context(), engine.Access{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// closed closes an engine.
func closed(t *testing.T, e *engine.Engine) {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func writeLayer(t *testing.T, s *snapshot.Store, name string) snapshot.Layer {
	t.Helper()
	l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{{Entry: snapshot.Entry{Path: name, Type: snapshot.TypeDir, Mode: 0o755}}}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What items take is all that the disk holds, as du(1) counts it, whoever keeps it, and
// whatever names a file has.
func TestUsageIsAll(t *testing.T) {
	fixtures.NeedProgram(t, "du")
	h := newHost(t, t.TempDir(), nil)
	e := open(t, h)
	defer closed(t, e)
	at := func(name string) string { return filepath.Join(h.Root(), name) }
	l := writeLayer(t, e.Store, "dir")
	if _, err := e.Store.Blobs().Put(t.Context(), []byte("blob")); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{
		string(l.ID): gc.KindRegular,
		"mounts/a":   gc.KindMount, "mounts/a.lock": gc.KindInternal, "mounts/new-1": gc.KindInternal,
		"logs/a.log": gc.KindLog, "contexts/a": gc.KindContext, "runs/a": gc.KindRun, "sandbox": gc.KindInternal, "run": gc.KindInternal,
		"sources/http/blobs/a": gc.KindHTTP, "sources/git/repos/a.git": gc.KindGit, "sources/git/known_hosts": gc.KindInternal,
		"cache/names/a": gc.KindInternal, "images": gc.KindInternal, "unheard": gc.KindInternal, "sources": gc.KindInternal, "": gc.KindInternal,
	}
	for i, name := range []string{
		"mounts/a/b/file", "mounts/a.lock", "mounts/new-1/files/file", "logs/a.log", "contexts/a", "runs/a/run.json", "sandbox/a/file", "run/a/file",
		"sources/http/blobs/a", "sources/git/repos/a.git/HEAD", "sources/git/known_hosts", "cache/names/a", "images/tmp/a", "unheard/of/a",
	} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), make([]byte, 5000*i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"mounts/a/again", "unheard/again", "layers/" + string(l.ID) + "/again"} {
		if err := os.Link(at("mounts/a/b/file"), at(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("unheard/holes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(at("unheard/holes"), 1<<30); err != nil {
		t.Fatal(err)
	}

	usage, err := e.Collector().Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, it := range usage.Items {
		sum += it.Size
		if want, ok := kinds[it.ID]; ok && it.Kind != want {
			t.Errorf("%q is of the kind %s, not %s", it.ID, it.Kind, want)
		}
		delete(kinds, it.ID)
	}
	for name := range kinds {
		t.Errorf("%q is no item", name)
	}
	out := fixtures.Must(t, "du", "-s", "-B1", h.Root())
	du, err := strconv.ParseInt(strings.Fields(out)[0], 10, 64)
	if err != nil || du != sum || du != usage.Total {
		t.Errorf("the items have %d bytes, the sum says %d, du %d, %v", sum, usage.Total, du, err)
	}
}
