package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/executor/runc/cgroup"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
)

// withoutCgroups is a sandbox that may not limit anything by cgroups.
func withoutCgroups(t *testing.T, opts Options) *Sandbox {
	t.Helper()
	fixtures.NeedRoot(t)
	opts.StateDir = t.TempDir()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.cgroups, err = cgroup.New(cgroup.Options{Total: opts.Total, Bare: true}); err != nil {
		t.Fatal(err)
	}
	return s
}

// Without cgroups the limits of memory, processes and processors are kept by other
// means.
func TestWithoutCgroups(t *testing.T) {
	t.Parallel()
	s := withoutCgroups(t, Options{})
	env := sandboxtest.NewEnv(t, s)
	const limit = 200 << 20
	spec := env.Shell(sandboxtest.Growing(170_000_000, 1_000_000_000) + "; echo code $?")
	spec.Limits = dag.Limits{Memory: limit}
	r := env.Run(t, spec)
	if !r.OOM || len(r.Victims) != 1 || r.Victims[0].Name != "awk" || r.Victims[0].PID < 2 || r.Out != "code 137\n" {
		t.Errorf("got %+v, victim %+v", r, r.Victims)
	}
	t.Logf("memory: %d of %d (%+.1f %%)", r.PeakMemory, limit, 100*(float64(r.PeakMemory)/limit-1))
	if r.PeakMemory > limit*2 || r.PeakMemory < limit*9/10 { // it grows on until it is seen
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	spec = env.Shell("head -c 180000000 /dev/zero | tail -c 180000000 | wc -c")
	spec.Limits = dag.Limits{Memory: limit}
	if got := env.Must(t, spec); got != "180000000" {
		t.Errorf("got %q", got)
	}

	// What forked processes have in common counts once.
	spec = env.Shell("x=$(head -c 80000000 /dev/zero | tr '\\0' x); for i in 1 2 3 4; do (sleep 0.5; echo here) & done; wait")
	spec.Limits = dag.Limits{Memory: limit}
	if r := env.Run(t, spec); r.Code != 0 || r.OOM || strings.Count(r.Out, "here") != 4 {
		t.Errorf("forked processes: %+v", r)
	}

	spec = env.Shell("i=0; while [ $i -lt 400 ]; do sleep 100 & i=$((i+1)); done; sleep 600; echo all")
	spec.Limits.Pids = 50
	if r := env.Run(t, spec); r.Code != 137 || r.PidsHit == 0 || r.Out != "" {
		t.Errorf("400 processes: %+v", r)
	}

	spec = env.Shell("grep Cpus_allowed_list /proc/self/status")
	spec.Limits.CPUs = 0.5
	if got := env.Must(t, spec); strings.ContainsAny(got, ",-") {
		t.Errorf("half a processor: %s", got)
	}

	l := dag.Limits{Memory: 1, Pids: 1, CPUs: 1, CPUShares: 1, CpusetCPUs: "0", CpusetMems: "0", IO: &dag.IOLimits{}}
	if notes := s.LimitNotes(l, nil); len(notes) != 7 {
		t.Errorf("notes: %s", strings.Join(notes, "\n"))
	}
	if notes := s.LimitNotes(dag.Limits{}, nil); len(notes) > 0 {
		t.Errorf("nothing to note: %q", notes)
	}
}

func TestUlimitNote(t *testing.T) {
	s := newSandbox(t)
	notes := s.LimitNotes(dag.Limits{}, []dag.Ulimit{{Name: "nofile", Soft: 10, Hard: 10}, {Name: "nofile", Soft: 1, Hard: 1 << 40}})
	if mayRaiseLimits() {
		t.Skip("this process may raise its limits")
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "nofile") {
		t.Errorf("got %q", notes)
	}
}

// All processes of a sandbox stay within its limits together, whatever theirs are.
func TestTotal(t *testing.T) {
	fixtures.NeedRoot(t)
	const memory = 96 << 20
	run := func(t *testing.T, s *Sandbox, percent int64) {
		env := sandboxtest.NewEnv(t, s)
		for _, own := range []int64{0, 64 << 20, 512 << 20} {
			spec := env.Shell(sandboxtest.Growing(40_000_000, 300_000_000))
			spec.Limits.Memory = own
			want := int64(memory)
			if own != 0 {
				want = min(own, memory)
			}
			r := env.Run(t, spec)
			t.Logf("own limit %d: peak %d, victim %+v", own, r.PeakMemory, r.Victims)
			if !r.OOM || r.PeakMemory > want*(100+percent)/100 || len(r.Victims) != 1 || r.Victims[0].Limit != want {
				t.Errorf("own limit %d: peak %d, OOM %v, victim %+v", own, r.PeakMemory, r.OOM, r.Victims)
			}
		}
	}
	total := dag.Limits{Memory: memory, CPUs: 0.5}
	t.Run("without cgroups", func(t *testing.T) { run(t, withoutCgroups(t, Options{Total: total}), 100) })
	s, err := New(Options{StateDir: t.TempDir(), Total: total})
	if err != nil {
		t.Fatal(err)
	}
	if rest := s.cgroups.Rest(); rest.Memory != 0 && rest.CPUs != 0 {
		t.Skip("needs cgroups that this user may write to")
	}
	run(t, s, 2)
	granted := "" // of 100 ms; what is used is less on a busy machine, limit or no limit
	for _, dir := range fixtures.Cgroups(t, os.Getpid()) {
		for _, file := range []string{"cpu.cfs_quota_us", "cpu.max"} {
			if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil && filepath.Base(dir) == s.cgroups.Name("build") {
				granted, _, _ = strings.Cut(strings.TrimSpace(string(b)), " ")
			}
		}
	}
	if granted != "50000" {
		t.Errorf("the cgroup of all grants %s µs of 100 ms", granted)
	}
	var mu sync.Mutex
	var used time.Duration
	var wg sync.WaitGroup
	begin := time.Now()
	for _, cpus := range []float64{0, 0.4, 2} {
		env := sandboxtest.NewEnv(t, s)
		spec := env.Shell("timeout -s KILL 2 sh -c 'while true; do true; done'; true")
		spec.ID, spec.Limits.CPUs = fmt.Sprint("cpus-", cpus), cpus
		wg.Go(func() {
			exit, err := s.Run(t.Context(), spec)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			used += time.Duration(exit.CPUNanos)
			mu.Unlock()
		})
	}
	wg.Wait()
	share := used.Seconds() / time.Since(begin).Seconds()
	t.Logf("3 processes used %.3f of 0.5 processors", share)
	if share > 0.55 {
		t.Errorf("3 processes used %.3f processors", share)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/builder/" + s.cgroups.Name("*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
