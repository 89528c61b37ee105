package sandboxtest

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/planner/dag"
)

func testUlimits(t *testing.T, e *Env) {
	spec := e.Shell("ulimit -Sn; ulimit -Hn; ulimit -c")
	spec.Ulimits = []dag.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "core", Soft: 0, Hard: 0}}
	if got := e.Must(t, spec); got != "100\n200\n0" {
		t.Errorf("got %q", got)
	}
	spec = e.Shell("true")
	spec.Ulimits = []dag.Ulimit{{Name: "nofile", Soft: 1 << 40, Hard: 1 << 40}}
	e.Must(t, spec) // clamped where it may not be raised
	spec.Ulimits = []dag.Ulimit{{Name: "nonsense", Soft: 1, Hard: 1}}
	if _, err := e.Sandbox.Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("unknown limit: %v", err)
	}
}

// limitsRefused is why resources cannot be limited here, which is so in a user
// namespace without cgroups that its user may write to; nil if they can be.
func limitsRefused(t *testing.T, e *Env) error {
	t.Helper()
	if !rootless.InUserNamespace() {
		return nil
	}
	spec := e.Shell("true")
	spec.Limits.Pids = 100
	if _, err := e.Sandbox.Run(t.Context(), spec); errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// needLimits skips a test where resources cannot be limited.
func needLimits(t *testing.T, e *Env) {
	t.Helper()
	if err := limitsRefused(t, e); err != nil {
		t.Skipf("needs cgroups that this user may write to: %v", err)
	}
}

func testMemoryLimit(t *testing.T, e *Env) {
	needLimits(t, e)
	spec := e.Shell("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}")
	spec.Limits = dag.Limits{Memory: 64 << 20, MemorySwap: 64 << 20}
	r := e.Run(t, spec)
	if r.Code == 0 || !r.OOM {
		t.Errorf("got code %d, OOM %v", r.Code, r.OOM)
	}
	if r.PeakMemory < 32<<20 || r.PeakMemory > 65<<20 {
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	spec = e.Shell("echo fits")
	spec.Limits = dag.Limits{Memory: 64 << 20}
	if r := e.Run(t, spec); r.Code != 0 || r.OOM {
		t.Errorf("small process: %+v", r)
	}
}

func testPidsLimit(t *testing.T, e *Env) {
	needLimits(t, e)
	spec := e.Shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done; echo all")
	spec.Limits.Pids = 8
	if r := e.Run(t, spec); strings.Contains(r.Out, "all") && !strings.Contains(r.Err, "fork") {
		t.Errorf("got %+v", r)
	}
	spec = e.Shell("echo one")
	spec.Limits.Pids = 1
	if got := e.Must(t, spec); got != "one" {
		t.Errorf("got %q", got)
	}
}

func testCPULimit(t *testing.T, e *Env) {
	needLimits(t, e)
	spec := e.Shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	spec.Limits.CPUs = 0.2
	start := time.Now()
	r := e.Run(t, spec)
	wall := time.Since(start)
	if r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	used := time.Duration(r.CPUNanos)
	// The preparation of the container is not limited.
	if used > 300*time.Millisecond && wall < 3*used {
		t.Errorf("used %v of CPU in %v", used, wall)
	}
}

func testCpuset(t *testing.T, e *Env) {
	needLimits(t, e)
	spec := e.Shell("grep Cpus_allowed_list /proc/self/status | cut -f2; cat /dev/null")
	spec.Limits.CpusetCPUs = "0"
	if got := e.Must(t, spec); got != "0" {
		t.Errorf("got %q", got)
	}
}

func testUsage(t *testing.T, e *Env) {
	r := e.Run(t, e.Shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
	if r.CPUNanos < int64(5*time.Millisecond) || r.PeakMemory < 100<<10 {
		t.Errorf("got %+v", r.Exit)
	}
}
