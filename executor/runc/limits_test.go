package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

// withoutCgroups is a sandbox that may not limit anything by cgroups.
func withoutCgroups(t *testing.T, opts Options) *Sandbox {
	t.Helper()
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
	s.cgroups.delegated = func() []string { return nil }
	for _, h := range hierarchies() {
		delete(s.cgroups.own, h)
	}
	s.rest, s.cgroups.total = dag.Limits{Memory: opts.Total.Memory, CPUs: opts.Total.CPUs}, nil
	return s
}

// Without cgroups the limits of memory, processes and processors are kept by other
// means.
func TestWithoutCgroups(t *testing.T) {
	s := withoutCgroups(t, Options{})
	env := sandboxtest.NewEnv(t, s)
	const limit = 200 << 20
	spec := env.Shell("tail -c 1000000000 /dev/zero > /dev/null; echo code $?")
	spec.Limits = dag.Limits{Memory: limit}
	r := env.Run(t, spec)
	if !r.OOM || r.Victim == nil || r.Victim.Name != "tail" || r.Victim.PID < 2 || r.Out != "code 137\n" {
		t.Errorf("got %+v, victim %+v", r, r.Victim)
	}
	t.Logf("memory: %d of %d (%+.1f %%)", r.PeakMemory, limit, 100*(float64(r.PeakMemory)/limit-1))
	if r.PeakMemory > limit*13/10 || r.PeakMemory < limit*9/10 { // on a machine that is busy
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	spec = env.Shell("head -c 180000000 /dev/zero | tail -c 180000000 | wc -c")
	spec.Limits = dag.Limits{Memory: limit}
	if got := env.Must(t, spec); got != "180000000" {
		t.Errorf("got %q", got)
	}

	spec = env.Shell("i=0; while [ $i -lt 400 ]; do sleep 100 & i=$((i+1)); done; sleep 10; echo all")
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
	const memory = 96 << 20
	run := func(t *testing.T, s *Sandbox, percent int64) {
		env := sandboxtest.NewEnv(t, s)
		for _, own := range []int64{0, 64 << 20, 512 << 20} {
			spec := env.Shell("tail -c 300000000 /dev/zero > /dev/null")
			spec.Limits.Memory = own
			want := int64(memory)
			if own != 0 {
				want = min(own, memory)
			}
			r := env.Run(t, spec)
			t.Logf("own limit %d: peak %d, victim %+v", own, r.PeakMemory, r.Victim)
			if !r.OOM || r.PeakMemory > want*(100+percent)/100 || r.Victim == nil || r.Victim.Limit != want {
				t.Errorf("own limit %d: peak %d, OOM %v, victim %+v", own, r.PeakMemory, r.OOM, r.Victim)
			}
		}
	}
	total := dag.Limits{Memory: memory, CPUs: 0.5}
	t.Run("without cgroups", func(t *testing.T) { run(t, withoutCgroups(t, Options{Total: total}), 30) })
	s, err := New(Options{StateDir: t.TempDir(), Total: total})
	if err != nil {
		t.Fatal(err)
	}
	if s.cgroups.total == nil {
		t.Skip("needs cgroups that this user may write to")
	}
	run(t, s, 2)
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
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/builder/" + s.cgroups.prefix + "*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// On cgroup v2 the limits are written to these files.
func TestUnifiedFiles(t *testing.T) {
	cgroups.TestMode = true
	defer func() { cgroups.TestMode = false }()
	dir := t.TempDir()
	for _, f := range []string{
		"cgroup.controllers", "memory.max", "memory.swap.max", "memory.low", "memory.current", "cpu.max", "cpu.weight", "cpu.weight.nice",
		"cpuset.cpus", "pids.max", "io.max", "io.weight",
	} {
		content := ""
		if f == "cgroup.controllers" {
			content = "cpuset cpu io memory pids\n"
		}
		if err := os.WriteFile(filepath.Join(dir, f), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := dag.Limits{
		Memory: 1 << 20, MemoryReservation: 1 << 19, CPUs: 1.5, CPUShares: 512, CpusetCPUs: "0-1", Pids: 9,
		IO: &dag.IOLimits{Weight: 500, WriteBPS: []dag.DeviceRate{{Major: 8, Minor: 0, Rate: 4096}}},
	}
	cfg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{CgroupName: "c", Spec: &specs.Spec{
		Linux: &specs.Linux{Resources: resources(l, false, true)},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Resources.Devices, cfg.Resources.SkipDevices = nil, true
	m, err := fs2.NewManager(cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Set(cfg.Resources); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory.max": "1048576", "memory.swap.max": "1048576", "memory.low": "524288", "cpu.max": "150000 100000",
		"cpuset.cpus": "0-1", "pids.max": "9", "io.max": "8:0 wbps=4096", "io.weight": "4950",
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if got := strings.TrimSpace(string(b)); err != nil || got != want {
			t.Errorf("%s: %q, want %q (%v)", file, got, want, err)
		}
	}
}

// On cgroup v2 these files say what was used and what was hit.
func TestUnifiedAccount(t *testing.T) {
	cgroups.TestMode = true
	defer func() { cgroups.TestMode = false }()
	dir := t.TempDir()
	for file, content := range map[string]string{
		"memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\n", "memory.peak": "1048576\n",
		"cpu.stat": "usage_usec 2000\nuser_usec 1500\nsystem_usec 500\n", "pids.events": "max 3\n",
		"io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2\n8:16 rbytes=1 wbytes=2\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := sandbox.Exit{Usage: sandbox.Usage{CPUNanos: 5, PeakMemory: 7, WriteBytes: 9000}}
	(&cgroup{unified: dir}).account(&e)
	want := sandbox.Exit{OOM: true, PidsHit: 3, Usage: sandbox.Usage{
		CPUNanos: 2_000_000, SystemNanos: 500_000, PeakMemory: 1 << 20, ReadBytes: 4097, WriteBytes: 9000,
	}}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, want %+v", e, want)
	}
	f, err := oomEvents(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{wake: make(chan struct{}, 1)}
	w.wakeOn(f)
	if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte("oom_kill 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.wake:
	case <-time.After(5 * time.Second):
		t.Error("memory.events changed unnoticed")
	}
	f.Close()
	w.wg.Wait()
}

func TestParseKilled(t *testing.T) {
	const record = "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0," +
		"oom_memcg=/a/builder/1-2-build,task_memcg=/a/builder/1-2-build/1-2-x,task=we,pid=ird ,task=n,pid=7,uid=0\n SUBSYSTEM=x\n"
	k, ok := parseKilled(record, "1-2-x")
	if want := (killed{pid: 7, name: "we,pid=ird ,task=n", cgroup: "1-2-build"}); !ok || k != want {
		t.Errorf("got %+v %v", k, ok)
	}
	for _, cgroup := range []string{"1-2-build/1", "2-x", "other"} {
		if _, ok := parseKilled(record, cgroup); ok {
			t.Errorf("%s matches", cgroup)
		}
	}
	if _, ok := parseKilled("6,1,2,-;Memory cgroup out of memory: Killed process 7 (x)", "1-2-x"); ok {
		t.Error("another record matches")
	}
}
