package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// asks are graphs that somebody made by hand, each with what it takes to be granted.
func asks() map[dag.Permission][]func(*dag.Exec) {
	return map[dag.Permission][]func(*dag.Exec){
		dag.PermissionInsecure: {
			func(op *dag.Exec) { op.Security = dag.SecurityInsecure },
			func(op *dag.Exec) { op.Security = "anything else" },
		},
		dag.PermissionNetworkHost:  {func(op *dag.Exec) { op.Network = dag.NetHost }},
		dag.PermissionNetworkNS:    {func(op *dag.Exec) { op.Network = "ns:/proc/1/ns/net" }},
		dag.PermissionCapabilities: {func(op *dag.Exec) { op.CapAdd = []string{"CAP_SYS_ADMIN"} }},
		dag.PermissionSeccomp: {
			func(op *dag.Exec) { op.Confine = &dag.Confinement{Seccomp: dag.SeccompUnconfined} },
			func(op *dag.Exec) { op.Confine = &dag.Confinement{Seccomp: "sha256:00"} },
		},
		dag.PermissionAppArmor: {func(op *dag.Exec) { op.Confine = &dag.Confinement{AppArmor: "unconfined"} }},
		dag.PermissionPaths:    {func(op *dag.Exec) { op.Confine = &dag.Confinement{Unmask: []string{"/proc/kcore"}} }},
		dag.PermissionVolume:   {func(op *dag.Exec) { op.Volumes = []dag.Volume{{Source: "/etc", Dest: "/mnt"}} }},
		dag.PermissionDevice: {
			func(op *dag.Exec) {
				op.HostDevices = []dag.HostDevice{{Source: "/dev/null", Dest: "/dev/x", Access: "r"}}
			},
			func(op *dag.Exec) { op.Devices = []dag.Device{{Name: "v.com/d=null", Required: true}} },
			func(op *dag.Exec) { op.Devices = []dag.Device{{Name: "v.com/d=null"}} }, // there is one
		},
	}
}

// TestGrants proves for every permission that the worker refuses a graph that needs it,
// with all others granted, and does not with it alone.
func TestGrants(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	dir := t.TempDir()
	text := `{"cdiVersion":"0.6.0","kind":"v.com/d","devices":[{"name":"null","containerEdits":{"env":["X=1"]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "d.json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.worker.machine.Devices, err = cdi.Load(dir); err != nil {
		t.Fatal(err)
	}
	s.worker.build.SeccompProfiles = nil
	all := asks()
	for _, p := range dag.Permissions() {
		if p != dag.PermissionSecretLeak && len(all[p]) == 0 {
			t.Errorf("no graph asks for %s", p)
		}
		for i, change := range all[p] {
			run := runStep("run", scratchStep())
			change(run.Op.(*dag.Exec))
			s.worker.grants = dag.Grant(slices.DeleteFunc(dag.Permissions(), func(q dag.Permission) bool { return q == p })...)
			s.sandbox.specs = nil
			_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}})
			if !errors.Is(err, executor.ErrNotAllowed) || err.Error() != "entitlement "+string(p)+" is not allowed" || len(s.sandbox.specs) > 0 {
				t.Errorf("%s %d: not granted, it gave %v and %d processes", p, i, err, len(s.sandbox.specs))
			}
			s.worker.grants = dag.Grant(p)
			if _, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}}); errors.Is(err, executor.ErrNotAllowed) {
				t.Errorf("%s %d: granted, it gave %v", p, i, err)
			}
			s.worker.grants = dag.Grant()
			if _, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}}); !errors.Is(err, executor.ErrNotAllowed) {
				t.Errorf("%s %d: not granted, what another build made gave %v", p, i, err)
			}
		}
	}
}

// TestNothingLeadsAroundLimits proves that what bounds a step cannot be aimed elsewhere.
func TestNothingLeadsAroundLimits(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.worker.grants = dag.Grant(dag.Permissions()...)
	for want, change := range map[string]func(*dag.Step){
		"cgroup parent ../..:": func(st *dag.Step) { st.Meta.Limits.Parent = "../.." },
		"cannot be limited": func(st *dag.Step) {
			op := st.Op.(*dag.Exec)
			op.Network, op.NetworkAllow = dag.NetHost, []string{"example.com"}
		},
	} {
		run := runStep("run", scratchStep())
		change(run)
		if _, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if len(s.sandbox.specs) > 0 {
		t.Error("a process ran")
	}
}

// TestOutputs proves that what a process writes to a mount is an output where that is
// asked for, on the layers of the mount's input or of its own, and lost otherwise.
func TestOutputs(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"write": func(_ context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			err := os.WriteFile(filepath.Join(spec.Root.Upper, "root"), []byte("r"), 0o644)
			for _, m := range spec.Mounts {
				if m.Snapshot.Upper != "" {
					err = errors.Join(err, os.WriteFile(filepath.Join(m.Snapshot.Upper, "new"+filepath.Base(m.Dest)), []byte("n"), 0o644))
				}
			}
			return sandbox.Exit{}, err
		},
	}
	build := func() *dag.Step {
		run := runStep("write", scratchStep(),
			dag.Mount{Type: dag.MountBind, Input: 1, Dest: "/a", Output: 2},
			dag.Mount{Type: dag.MountBind, Input: -1, Dest: "/b", Output: 1},
			dag.Mount{Type: dag.MountBind, Input: 1, Dest: "/c"},
			dag.Mount{Type: dag.MountBind, Input: 1, Dest: "/d", Output: 3, ReadOnly: true})
		run.Inputs = append(run.Inputs, dag.Edge{Step: scratchStep()})
		if err := run.Validate(); err != nil {
			t.Fatal(err)
		}
		return run
	}
	for range 2 { // run, then cached
		run := build()
		res, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}, {Step: run, Output: 1}, {Step: run, Output: 2}, {Step: run, Output: 3}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range res {
			got = append(got, s.files(t, r.Stack))
		}
		want := []string{"base=b root=r", "newb=n", "base=b newa=n", "base=b"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if len(s.sandbox.specs) != 1 {
		t.Errorf("it ran %d times", len(s.sandbox.specs))
	}
	store := s.store
	if left, err := os.ReadDir(filepath.Join(store.Root(), "active")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
