package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"layered.build/builder/cache/disk"
	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/executor/rootless/rootlesstest"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/source"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
	fileowner "layered.build/builder/snapshot/owner"
)

func TestMain(m *testing.M) {
	rootlesstest.Enter()
	goleak.VerifyTestMain(m)
}

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

func TestCopyIsCachedByContent(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "src/a.go", "a")
	s.write(t, "src/b.go", "b")
	s.write(t, "other", "o")
	build := func() *dag.Step { return copyStep(scratchStep(), cp("/app/", "src")) }
	first := s.solve(t, build())
	if got := s.files(t, first.Stack); got != "app/a.go=a app/b.go=b base=b" || len(first.Stack) != 2 {
		t.Fatalf("files of %d layers: %s", len(first.Stack), got)
	}
	at := func(name string) string { return filepath.Join(s.context, name) }
	long := time.Unix(1, 0)
	for _, tc := range []struct {
		name   string
		change func() error
		want   executor.EventType
	}{
		{"nothing", func() error { return nil }, executor.EventCached},
		{"another file", func() error { return os.WriteFile(at("other"), nil, 0o644) }, executor.EventCached},
		{"only times", func() error { return os.Chtimes(at("src/a.go"), long, long) }, executor.EventCached},
		{"content", func() error { return os.WriteFile(at("src/a.go"), []byte("A"), 0o644) }, executor.EventDone},
		{"content, back again", func() error { return os.WriteFile(at("src/a.go"), []byte("a"), 0o644) }, executor.EventCached},
		{"name", func() error { return os.Rename(at("src/a.go"), at("src/c.go")) }, executor.EventDone},
		{"mode", func() error { return os.Chmod(at("src/b.go"), 0o755) }, executor.EventDone},
		{"new empty directory", func() error { return os.Mkdir(at("src/d"), 0o755) }, executor.EventDone},
	} {
		if err := tc.change(); err != nil {
			t.Fatal(err)
		}
		s.reopen(t)
		s.solve(t, build())
		if got := s.events["copy"].Type; got != tc.want {
			t.Errorf("%s changed: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestWildcardKey(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "file1", "1")
	s.write(t, "file2", "2")
	s.write(t, "readme", "r")
	build := func() *dag.Step { return copyStep(scratchStep(), cp("/app/", "file*")) }
	s.solve(t, build())
	s.write(t, "readme", "changed")
	s.reopen(t)
	s.solve(t, build())
	if got := s.events["copy"].Type; got != executor.EventCached {
		t.Errorf("a file that does not match changed: %s", got)
	}
	if err := os.Rename(filepath.Join(s.context, "file2"), filepath.Join(s.context, "file3")); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	plan, err := s.newBuild().Plan(t.Context(), []dag.Edge{{Step: build()}})
	if err != nil {
		t.Fatal(err)
	}
	if why := plan[len(plan)-1].Reason; why != "file3 is new, file2 is gone" {
		t.Errorf("reason %q", why)
	}
	if res := s.solve(t, build()); s.files(t, res.Stack) != "app/file1=1 app/file3=2 base=b" {
		t.Errorf("after a rename: %s", s.files(t, res.Stack))
	}
}

func TestMissingSource(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "secret.txt", "x")
	ctx := step("context", &dag.Source{Local: &dag.LocalSource{Name: "context", Excludes: []string{"*.txt"}}})
	for name, pattern := range map[string]string{"nope": "", "secret.txt": "*.txt"} {
		c := step("copy", &dag.File{Base: true, Actions: []dag.Action{{Copy: cp("/x", name)}}}, scratchStep(), ctx)
		_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: c}})
		var se *executor.StepError
		var m *executor.MissingError
		if !errors.As(err, &se) || se.Step != c || !errors.As(err, &m) || m.Path != name || m.Pattern != pattern {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWorkdirThatExists(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	mk := func(base *dag.Step) *dag.Step {
		return step("workdir", &dag.File{Base: true, Actions: []dag.Action{{Mkdir: &dag.Mkdir{Path: "/w", Mode: 0o755, MakeParents: true}}}}, base)
	}
	once := s.solve(t, mk(scratchStep()))
	twice := s.solve(t, mk(mk(scratchStep())))
	if len(once.Stack) != 2 || once.Stack[1].Empty || len(twice.Stack) != 3 || !twice.Stack[2].Empty {
		t.Errorf("layers %+v, then %+v", once.Stack, twice.Stack)
	}
}

func TestMergeAndDiff(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "f", "f")
	files := step("files", &dag.File{Actions: []dag.Action{{Copy: &dag.Copy{Input: 0, Sources: []string{"f"}, Dest: "/app/f"}}}}, contextStep())
	linked := step("link", &dag.Merge{}, scratchStep(), files)
	res := s.solve(t, linked)
	if got := s.files(t, res.Stack); got != "app/f=f base=b" {
		t.Errorf("merge: %s", got)
	}
	again := s.solve(t, step("again", &dag.Merge{}, scratchStep(), linked))
	if again.Stack.ChainID() != res.Stack.ChainID() {
		t.Errorf("what the stacks have in common is repeated")
	}
	d := s.solve(t, step("diff", &dag.Diff{}, scratchStep(), linked))
	if got := s.files(t, d.Stack); got != "app/f=f" {
		t.Errorf("diff: %s", got)
	}
}

func TestProcess(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"touch": func(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			io.WriteString(spec.Stdout, "hello\n")
			return sandbox.Exit{Usage: sandbox.Usage{CPUNanos: 7}}, os.WriteFile(filepath.Join(spec.Root.Upper, "made"), []byte("m"), 0o644)
		},
		"fail": func(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			for i := range 5000 {
				fmt.Fprintf(spec.Stdout, "line %d\n", i)
			}
			io.WriteString(spec.Stderr, "the end\n")
			return sandbox.Exit{
				Code: 137, OOM: true, Victim: &sandbox.Victim{Name: "cc1", PID: 7, Limit: 64 << 20}, PidsHit: 1,
				Usage: sandbox.Usage{PeakMemory: 63<<20 + 1<<19},
			}, nil
		},
	}
	res := s.solve(t, runStep("touch", scratchStep()))
	if got := s.files(t, res.Stack); got != "base=b made=m" {
		t.Errorf("files: %s", got)
	}
	if s.log["touch"] != "hello\n" || s.events["touch"].Usage == nil || s.events["touch"].Usage.CPU != 7 {
		t.Errorf("log %q, last event %+v", s.log["touch"], s.events["touch"])
	}
	env := s.sandbox.specs[0].Env
	if !slices.Contains(env, defaultPath) || !slices.Contains(env, "HOME=/") {
		t.Errorf("env %v", env)
	}

	failing := runStep("fail", scratchStep())
	failing.Meta.Limits.Memory, failing.Meta.Limits.Pids = 64<<20, 9
	_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: failing}})
	var se *executor.StepError
	if !errors.As(err, &se) {
		t.Fatal(err)
	}
	want := `process "fail" did not complete successfully: exit code: 137: ` +
		"out of memory: cc1 (process 7) was killed at the limit of 64 MiB; the peak was 63.5 MiB: the limit of 9 processes was reached"
	if err.Error() != want || se.ExitCode != 137 || !se.OOM {
		t.Errorf("error %v", err)
	}
	if tail := string(se.LogTail); !strings.HasSuffix(tail, "line 4999\nthe end\n") || !strings.HasPrefix(tail, "line ") || len(tail) > tailSize {
		t.Errorf("tail of %d bytes: %.20q…", len(tail), tail)
	}
	full, err := os.ReadFile(se.LogPath)
	if err != nil || !strings.HasPrefix(string(full), "line 0\n") || strings.Count(string(full), "\n") != 5001 {
		t.Errorf("log file of %d bytes, %v", len(full), err)
	}
	left, err := os.ReadDir(filepath.Join(s.root, "active"))
	if err != nil || len(left) != 0 {
		t.Errorf("snapshots left: %v, %v", left, err)
	}
}

func TestMounts(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "dir/in", "context")
	id, mode := 1000, 0o440
	var seen []string
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"look": func(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			for _, m := range spec.Mounts {
				switch {
				case m.Tmpfs != nil:
					seen = append(seen, fmt.Sprintf("%s tmpfs %d", m.Dest, m.Tmpfs.Size))
				case m.HostPath == "":
					seen = append(seen, fmt.Sprintf("%s snapshot %s ro=%v", m.Dest, m.Selector, m.ReadOnly))
				default:
					fi, err := os.Stat(m.HostPath)
					if err != nil {
						return sandbox.Exit{}, err
					}
					text := "directory"
					if !fi.IsDir() {
						b, err := os.ReadFile(m.HostPath)
						if err != nil {
							return sandbox.Exit{}, err
						}
						text = string(b)
					}
					st := fi.Sys().(*syscall.Stat_t)
					uid := st.Uid
					if rec, ok, err := fileowner.Read(m.HostPath); ok && err == nil {
						uid = rec.UID
					}
					seen = append(seen, fmt.Sprintf("%s %s %o %d ro=%v", m.Dest, text, fi.Mode().Perm(), uid, m.ReadOnly))
					if m.Dest == "/cache" {
						os.WriteFile(filepath.Join(m.HostPath, "kept"), nil, 0o644)
					}
				}
			}
			return sandbox.Exit{}, nil
		},
	}
	op := &dag.Exec{Args: []string{"look"}, Cwd: "/", Mounts: []dag.Mount{
		{Type: dag.MountBind, Dest: "/"},
		{Type: dag.MountBind, Input: 1, Selector: "dir/in", Dest: "/file", ReadOnly: true},
		{Type: dag.MountBind, Input: 1, Dest: "/all", ReadOnly: true},
		{Type: dag.MountBind, Input: 2, Selector: "/base", Dest: "/stage", ReadOnly: true},
		{Type: dag.MountTmpfs, Input: -1, Dest: "/tmp", Size: 4096},
		{Type: dag.MountCache, Input: -1, ID: "c", Dest: "/cache", Sharing: "locked"},
		{Type: dag.MountCache, Input: -1, ID: "c", Dest: "/again", Sharing: "locked"},
		{Type: dag.MountSecret, Input: -1, ID: "token", Dest: "/run/secrets/token", UID: &id, GID: &id, Mode: &mode, ReadOnly: true},
		{Type: dag.MountSecret, Input: -1, ID: "absent", Dest: "/run/secrets/absent"},
	}, SecretEnv: []dag.SecretEnv{{ID: "token", Name: "TOKEN", Required: true}, {ID: "absent", Name: "ABSENT"}}}
	s.solve(t, step("look", op, scratchStep(), contextStep(), scratchStep()))
	want := []string{
		"/file context 644 0 ro=true", "/all directory 755 0 ro=true", "/stage snapshot base ro=true", "/tmp tmpfs 4096",
		"/cache directory 755 0 ro=false", "/again directory 755 0 ro=false", "/run/secrets/token hunter2 440 1000 ro=true",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
	if env := s.sandbox.specs[0].Env; !slices.Contains(env, "TOKEN=hunter2") || !slices.Contains(env, "ABSENT=") {
		t.Errorf("env %v", env)
	}
	secret := s.sandbox.specs[0].Mounts[6].HostPath
	if _, err := os.Stat(secret); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the secret is left at %s", secret)
	}
	if left, err := os.ReadDir(filepath.Join(s.root, "run")); err != nil || len(left) != 0 {
		t.Errorf("left in run: %v, %v", left, err)
	}
	if kept, err := filepath.Glob(filepath.Join(s.root, "mounts/*/kept")); err != nil || len(kept) != 1 {
		t.Errorf("cache: %v, %v", kept, err)
	}
	// Nothing on disk may hold the secret.
	err := filepath.WalkDir(s.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if strings.Contains(string(b), "hunter2") {
			t.Errorf("the secret is in %s", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	for _, tc := range []struct {
		change func(*dag.Exec)
		want   string
	}{
		{func(op *dag.Exec) { op.Security = dag.SecurityInsecure }, "entitlement security.insecure is not allowed"},
		{func(op *dag.Exec) { op.Network = dag.NetHost }, "entitlement network.host is not allowed"},
		{func(op *dag.Exec) {
			op.Mounts = append(op.Mounts, dag.Mount{Type: dag.MountSecret, Input: -1, ID: "mysecret", Dest: "/s", Required: true})
		}, "secret mysecret: not found"},
		{func(op *dag.Exec) {
			op.SecretEnv = []dag.SecretEnv{{ID: "mysecret", Name: "X", Required: true}}
		}, "secret mysecret: not found"},
		{func(op *dag.Exec) { op.User = "ghost" }, "ghost"},
	} {
		run := runStep("x", scratchStep())
		tc.change(run.Op.(*dag.Exec))
		_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	if len(s.sandbox.specs) != 0 {
		t.Error("a refused process ran")
	}
}

func TestCacheSharing(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	wait := fixtures.Patience
	open := func(sharing string) (string, func() error, error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		m := &mounter{w: s.worker, job: &executor.Job{}}
		p, err := m.cache(ctx, dag.Mount{Type: dag.MountCache, Input: -1, ID: "c", Sharing: sharing})
		return p.HostPath, m.close, err
	}
	first, done, err := open("locked")
	if err != nil {
		t.Fatal(err)
	}
	wait = 50 * time.Millisecond
	if _, _, err := open("locked"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a locked cache is given out twice: %v", err)
	}
	wait = fixtures.Patience
	private, donePrivate, err := open("private")
	if err != nil || private == first {
		t.Errorf("a cache in use is given out as private: %v", err)
	}
	if err := errors.Join(done(), donePrivate()); err != nil {
		t.Fatal(err)
	}
	a, doneA, errA := open("shared")
	b, doneB, errB := open("shared")
	if err := errors.Join(errA, errB); err != nil || a != first || b != first {
		t.Errorf("shared: %s, %s, want %s: %v", a, b, first, err)
	}
	if err := errors.Join(doneA(), doneB()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(first, "out")); err != nil {
		t.Fatal(err)
	}
	m := &mounter{w: s.worker, job: &executor.Job{}}
	defer m.close()
	if p, err := m.cache(t.Context(), dag.Mount{Input: -1, ID: "c", Selector: "out/x"}); err == nil {
		t.Errorf("the source of a cache leads out of it: %s/%s", p.HostPath, p.Selector)
	}
}

// TestRegisteredDevices: a device that is required must be there, another one is
// left out.
func TestRegisteredDevices(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	dir := t.TempDir()
	text := `{"cdiVersion":"0.6.0","kind":"v.com/d","devices":[
		{"name":"null","containerEdits":{"env":["X=1"],"deviceNodes":[{"path":"/dev/mine","hostPath":"/dev/null","permissions":"r"}]}},
		{"name":"hook","containerEdits":{"hooks":[{"hookName":"createContainer","path":"/x"}]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "d.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.worker.machine.Devices, err = cdi.Load(dir); err != nil {
		t.Fatal(err)
	}
	s.worker.grants = dag.Grant(dag.PermissionDevice)
	solve := func(name string, required bool) error {
		run := runStep("x"+name, scratchStep())
		run.Op.(*dag.Exec).Devices = []dag.Device{{Name: name, Required: required}}
		_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}})
		return err
	}
	if err := solve("v.com/none", true); err == nil || !strings.Contains(err.Error(), `required device "v.com/none" is not registered`) {
		t.Errorf("required: %v", err)
	}
	if err := solve("v.com/d=hook", false); err == nil || !strings.Contains(err.Error(), "hooks, which are not supported") {
		t.Errorf("hooks: %v", err)
	}
	if err := errors.Join(solve("v.com/none", false), solve("v.com/d=null", true)); err != nil {
		t.Fatal(err)
	}
	specs := s.sandbox.specs
	if len(specs) != 2 || len(specs[0].Devices) != 0 {
		t.Fatalf("got %+v", specs)
	}
	d := specs[1].Devices
	if len(d) != 1 || d[0].Path != "/dev/mine" || d[0].Major != 1 || d[0].Minor != 3 || d[0].Access != "r" || !slices.Contains(specs[1].Env, "X=1") {
		t.Errorf("got %+v %v", d, specs[1].Env)
	}
}
