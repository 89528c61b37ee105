package local

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"layered.build/builder/cache/disk"
	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/source"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// fakeSandbox "runs" the function that the command names on the upper directory.
type fakeSandbox struct {
	mu    sync.Mutex
	specs []*sandbox.Spec
	run   map[string]func(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error)
}

func (f *fakeSandbox) Run(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
	f.mu.Lock()
	f.specs = append(f.specs, spec)
	run := f.run[spec.Args[0]]
	f.mu.Unlock()
	if run == nil {
		return sandbox.Exit{}, nil
	}
	return run(ctx, spec)
}

type secrets map[string]string

func (s secrets) Secret(ctx context.Context, id string) ([]byte, error) {
	v, ok := s[id]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(v), nil
}

// site is a store with everything on it.
type site struct {
	root, context string
	store         *snapshot.Store
	sandbox       *fakeSandbox
	worker        *Worker
	options       executor.Options
	events        map[string]executor.Event // last one by step
	log           map[string]string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{root: t.TempDir(), context: t.TempDir(), sandbox: &fakeSandbox{}}
	s.reopen(t)
	return s
}

// reopen begins anew on the same folders, as a later process does.
func (s *site) reopen(t *testing.T) {
	t.Helper()
	var err error
	if s.store, err = snapshot.Open(s.root, snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
	store := s.store
	t.Cleanup(func() { store.Close() })
	records, err := disk.Open(filepath.Join(s.root, "cache"), s.store.Has)
	if err != nil {
		t.Fatal(err)
	}
	contexts := &source.Contexts{Dirs: map[string]string{"context": s.context}, StateDir: filepath.Join(s.root, "contexts")}
	t.Cleanup(func() { contexts.Close() })
	s.worker = New(Machine{Store: s.store, Sandbox: s.sandbox}, Build{Contexts: contexts, Secrets: secrets{"token": "hunter2"}}, dag.Grants{})
	var mu sync.Mutex
	s.events, s.log = map[string]executor.Event{}, map[string]string{}
	s.options = executor.Options{Cache: records, Locker: records, Worker: s.worker, Observer: func(e executor.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Type == executor.EventLog {
			s.log[e.Step.Meta.Name] += string(e.Data)
			return
		}
		s.events[e.Step.Meta.Name] = e
	}}
}

func (s *site) newBuild() *executor.Solver { return executor.New(s.options) }

func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	p := filepath.Join(s.context, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *site) solve(t *testing.T, step *dag.Step) executor.Result {
	t.Helper()
	res, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: step}})
	if err != nil {
		t.Fatal(err)
	}
	return res[0]
}

// files lists a stack as "path content".
func (s *site) files(t *testing.T, stack snapshot.Stack) string {
	t.Helper()
	tree, err := s.store.Tree(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	err = snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
		if e.Type != snapshot.TypeFile {
			return nil
		}
		r, err := tree.Open(e.Path)
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		out = append(out, e.Path+"="+string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func step(name string, op dag.Op, inputs ...*dag.Step) *dag.Step {
	s := &dag.Step{Op: op, Meta: dag.Meta{Name: name}}
	for _, in := range inputs {
		s.Inputs = append(s.Inputs, dag.Edge{Step: in})
	}
	return s
}

func contextStep() *dag.Step {
	return step("context", &dag.Source{Local: &dag.LocalSource{Name: "context"}})
}

func copyStep(base *dag.Step, c *dag.Copy) *dag.Step {
	return step("copy", &dag.File{Base: true, Actions: []dag.Action{{Copy: c}}}, base, contextStep())
}

func runStep(name string, base *dag.Step, mounts ...dag.Mount) *dag.Step {
	op := &dag.Exec{Args: []string{name}, Cwd: "/", Mounts: append([]dag.Mount{{Type: dag.MountBind, Dest: "/"}}, mounts...)}
	return step(name, op, base)
}

// scratch is a base with one file.
func scratchStep() *dag.Step {
	return step("base", &dag.File{Actions: []dag.Action{{Mkfile: &dag.Mkfile{Path: "/base", Mode: 0o644, Data: []byte("b")}}}})
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: layer directories hold files of root")
	}
}
