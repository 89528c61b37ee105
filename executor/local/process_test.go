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
	"syscall"
	"testing"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
	fileowner "layered.build/builder/snapshot/owner"
)

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
				Code: 137, OOM: true, Victims: []sandbox.Victim{{Name: "cc1", PID: 7, Limit: 64 << 20}}, PidsHit: 1,
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

// TestVictims: all that were killed are named, since any of them may be why the step
// failed.
func TestVictims(t *testing.T) {
	all := []sandbox.Victim{{Name: "cc1", PID: 7, Limit: 64 << 20}, {Name: "awk", Limit: 64 << 20}, {PID: 9}, {Name: "x"}, {Name: "y"}}
	for n, who := range []string{
		"a process was killed",
		"cc1 (process 7) was killed at the limit of 64 MiB",
		"cc1 (process 7), then awk were killed at the limit of 64 MiB",
		"cc1 (process 7), then awk, then a process (process 9) were killed at the limit of 64 MiB",
		"cc1 (process 7), then awk, then a process (process 9), then 1 more were killed at the limit of 64 MiB",
		"cc1 (process 7), then awk, then a process (process 9), then 2 more were killed at the limit of 64 MiB",
	} {
		exit := sandbox.Exit{OOM: true, Victims: all[:n], Usage: sandbox.Usage{PeakMemory: 1 << 20}}
		if got, want := oomText(exit), "out of memory: "+who+"; the peak was 1 MiB"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
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
		m := &mounter{w: s.worker, job: &executor.Job{Step: &dag.Step{}}}
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
	m := &mounter{w: s.worker, job: &executor.Job{Step: &dag.Step{}}}
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
