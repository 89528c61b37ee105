package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
)

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
	(&Group{unified: dir}).Account(&e)
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
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(fixtures.Patience)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte("oom_kill 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 4096)); err != nil {
		t.Errorf("memory.events changed unnoticed: %v", err)
	}
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
