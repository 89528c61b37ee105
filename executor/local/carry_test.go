package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/executor/cachemount"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
)

// otherPlace has contents of cache mounts by id.
type otherPlace struct {
	mu       sync.Mutex // guards what follows
	has      map[string]string
	broken   error
	restored []string
	used     []string
}

// Restore implements CacheMounts.
func (e *otherPlace) Restore(_ context.Context, m cachemount.Mount, dir string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.restored = append(e.restored, m.ID)
	text, ok := e.has[m.ID]
	if !ok || e.broken != nil {
		return false, e.broken
	}
	return true, errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "from"), []byte(text), 0o644))
}

// Used implements CacheMounts.
func (e *otherPlace) Used(m cachemount.Mount, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used = append(e.used, fmt.Sprintf("%s %s %v %v", m.ID, m.Platform, ok, m.Variant != ""))
}

// cacheStep runs a process with a cache mount.
func cacheStep(name string, m dag.Mount) *dag.Step {
	s := runStep(name, scratchStep())
	s.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	m.Type, m.Dest, m.Input = dag.MountCache, "/cache", -1
	op := s.Op.(*dag.Exec)
	op.Mounts = append(op.Mounts, m)
	return s
}

func TestRestoredCaches(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	e := &otherPlace{has: map[string]string{"m": "elsewhere", "owned": "of another"}}
	s.worker.build.CacheMounts = e
	var seen string
	look := func(_ context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
		b, err := os.ReadFile(filepath.Join(spec.Mounts[0].HostPath, "from"))
		if seen = string(b); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return sandbox.Exit{}, err
	}
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"fails": func(context.Context, *sandbox.Spec) (sandbox.Exit, error) { return sandbox.Exit{Code: 1}, nil },
	}
	run := func(name string, m dag.Mount) error {
		if s.sandbox.run[name] == nil {
			s.sandbox.run[name] = look
		}
		_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: cacheStep(name, m)}})
		return err
	}
	for _, sharing := range []string{"shared", "locked", "private"} {
		id := "m" // each begins anew
		os.RemoveAll(filepath.Join(s.root, "mounts"))
		e.restored, e.used = nil, nil
		if err := run(sharing, dag.Mount{ID: id, Sharing: sharing}); err != nil || seen != "elsewhere" {
			t.Errorf("%s: %q, %v", sharing, seen, err)
		}
		if err := run(sharing+" again", dag.Mount{ID: id, Sharing: sharing}); err != nil || seen != "elsewhere" {
			t.Errorf("%s again: %q, %v", sharing, seen, err)
		}
		if len(e.restored) != 1 || len(e.used) != 2 || e.used[0] != "m linux/amd64 true false" {
			t.Errorf("%s: restored %q, used %q", sharing, e.restored, e.used)
		}
		if err := run(sharing, dag.Mount{ID: id, Sharing: sharing}); err != nil || len(e.used) != 2 {
			t.Errorf("a step that is cached used something: %q, %v", e.used, err)
		}
	}
	all, err := cachemount.List(s.root)
	if err != nil || len(all) != 1 || all[0].ID != "m" || all[0].Variant != "" || all[0].InUse || all[0].LastUsed.IsZero() {
		t.Errorf("listed %+v, %v", all, err)
	}

	// One that is empty is replaced, one that has files is not.
	must(t, os.Remove(filepath.Join(all[0].Dir, "from")))
	if must(t, run("empty", dag.Mount{ID: "m"})); seen != "elsewhere" {
		t.Errorf("an empty mount: %q", seen)
	}
	must(t, os.WriteFile(filepath.Join(all[0].Dir, "from"), []byte("here"), 0o644))
	if must(t, run("full", dag.Mount{ID: "m"})); seen != "here" {
		t.Errorf("a mount with files: %q", seen)
	}
	// While somebody works in an empty one it stays where it is.
	must(t, os.Remove(filepath.Join(all[0].Dir, "from")))
	lock, err := files.TryLockFile(all[0].Lock(), files.Shared)
	must(t, err)
	if must(t, run("busy", dag.Mount{ID: "m"})); seen != "" {
		t.Errorf("a mount that somebody else uses was replaced: %q", seen)
	}
	must(t, lock.Release())

	e.used = nil
	id := 7
	must(t, run("owned", dag.Mount{ID: "owned", UID: &id}))
	must(t, run("read only", dag.Mount{ID: "ro", ReadOnly: true}))
	if err := run("fails", dag.Mount{ID: "f"}); err == nil {
		t.Error("it did not fail")
	}
	if want := []string{"owned linux/amd64 true true", "f linux/amd64 false false"}; !slices.Equal(e.used, want) {
		t.Errorf("used %q, want %q", e.used, want)
	}
	e.broken = errors.New("disk full")
	if err := run("broken", dag.Mount{ID: "other"}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.root, "mounts", cachemount.Making+"*")); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

// TestRestoredOnce has several steps that begin together wait for one that restores.
func TestRestoredOnce(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	e := &otherPlace{has: map[string]string{"m": "elsewhere"}}
	s.worker.build.CacheMounts = e
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){}
	var edges []dag.Edge
	var mu sync.Mutex
	seen := 0
	for i := range 6 {
		name := fmt.Sprint("step", i)
		s.sandbox.run[name] = func(_ context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			_, err := os.Lstat(filepath.Join(spec.Mounts[0].HostPath, "from"))
			mu.Lock()
			defer mu.Unlock()
			seen++
			return sandbox.Exit{}, err
		}
		edges = append(edges, dag.Edge{Step: cacheStep(name, dag.Mount{ID: "m"})})
	}
	if _, err := s.newBuild().Solve(t.Context(), edges); err != nil || seen != 6 {
		t.Errorf("%d saw it, %v", seen, err)
	}
	if len(e.restored) != 1 {
		t.Errorf("restored %d times", len(e.restored))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
