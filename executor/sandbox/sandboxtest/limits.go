package sandboxtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
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

// noter says which limits a sandbox cannot keep exactly.
type noter interface {
	LimitNotes(l dag.Limits, ulimits []dag.Ulimit) []string
}

// needExact skips a test where limits are not kept as they are asked for.
func needExact(t *testing.T, e *Env, l dag.Limits) {
	t.Helper()
	if n, ok := e.Sandbox.(noter); ok {
		if notes := n.LimitNotes(l, nil); len(notes) > 0 {
			t.Skip(strings.Join(notes, "; "))
		}
	}
}

// exactly reports whether limits are kept as they are asked for.
func exactly(e *Env, l dag.Limits) bool {
	n, ok := e.Sandbox.(noter)
	return !ok || len(n.LimitNotes(l, nil)) == 0
}

// within checks a measured value against a limit, of which it may have 10 % more.
func within(t *testing.T, what string, got, limit float64) {
	t.Helper()
	t.Logf("%s: %.4g of %.4g (%+.1f %%)", what, got, limit, 100*(got/limit-1))
	if got > 1.1*limit {
		t.Errorf("%s: %.4g is beyond the limit of %.4g", what, got, limit)
	}
}

func testMemoryLimit(t *testing.T, e *Env) {
	const limit = 128 << 20
	spec := e.Shell("echo first; tail -c 400000000 /dev/zero; echo code $?; sleep 0.01")
	spec.Limits = dag.Limits{Memory: limit, MemorySwap: limit}
	r := e.Run(t, spec)
	if !r.OOM || r.Out != "first\ncode 137\n" {
		t.Errorf("got code %d, OOM %v, %q", r.Code, r.OOM, r.Out)
	}
	if v := r.Victim; v == nil || v.Name != "" && v.Name != "tail" || v.Limit != limit || v.PID == 1 {
		t.Errorf("victim %+v", v)
	} else {
		t.Logf("victim %+v", *v)
	}
	if exactly(e, spec.Limits) {
		within(t, "memory", float64(r.PeakMemory), limit)
	} else if t.Logf("memory: %d of %d", r.PeakMemory, limit); r.PeakMemory > limit*3/2 {
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	if r.PeakMemory < limit*7/10 {
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	// What needs nine tenths of it is let through.
	spec = e.Shell("head -c 115000000 /dev/zero | tail -c 115000000 | wc -c")
	spec.Limits = dag.Limits{Memory: limit, MemorySwap: limit}
	if r := e.Run(t, spec); r.Code != 0 || r.OOM || r.Victim != nil || r.Out != "115000000\n" {
		t.Errorf("a process that fits: %+v", r)
	}
}

func testPidsLimit(t *testing.T, e *Env) {
	spec := e.Shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & echo x; done; sleep 1; echo all")
	spec.Limits.Pids = 8
	r := e.Run(t, spec)
	if _, tells := e.Sandbox.(noter); r.Code == 0 || strings.Contains(r.Out, "all") || tells && r.PidsHit == 0 {
		t.Errorf("got %+v", r)
	}
	if exactly(e, spec.Limits) {
		if n := strings.Count(r.Out, "x\n"); n != 7 {
			t.Errorf("%d processes beside the first one, want 7", n)
		}
	}
	spec = e.Shell("echo one")
	spec.Limits.Pids = 1
	if got := e.Must(t, spec); got != "one" {
		t.Errorf("got %q", got)
	}
}

// busy is a script that uses one processor for a number of rounds, and prints how
// many seconds that took.
func busy(rounds int) string {
	return fmt.Sprintf("a=$(cut -d' ' -f1 /proc/uptime); i=0; while [ $i -lt %d ]; do i=$((i+1)); done; "+
		"b=$(cut -d' ' -f1 /proc/uptime); echo $a $b", rounds)
}

// took is how many seconds a busy script took.
func took(t *testing.T, out string) float64 {
	t.Helper()
	f := strings.Fields(out)
	if len(f) != 2 {
		t.Fatalf("output %q", out)
	}
	a, err1 := strconv.ParseFloat(f[0], 64)
	b, err2 := strconv.ParseFloat(f[1], 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return b - a
}

func testCPULimit(t *testing.T, e *Env) {
	for name, l := range map[string]dag.Limits{
		"cpus": {CPUs: 0.4}, "quota": {CPUQuota: 20_000, CPUPeriod: 50_000},
	} {
		needExact(t, e, l)
		spec := e.Shell(busy(600_000))
		spec.Limits = l
		r := e.Run(t, spec)
		if r.Code != 0 {
			t.Fatalf("got %+v", r)
		}
		within(t, name, time.Duration(r.CPUNanos).Seconds()/took(t, r.Out), 0.4)
	}
}

// Two containers on one processor get time in proportion to their shares.
func testCPUShares(t *testing.T, e *Env) {
	needExact(t, e, dag.Limits{CPUShares: 2, CpusetCPUs: "0"})
	var used [2]float64
	var wg sync.WaitGroup
	for i, shares := range []uint64{3072, 1024} {
		// The first process of a container cannot be killed from inside.
		spec := e.Shell("timeout -s KILL 2 sh -c 'while true; do true; done'; true")
		spec.Root.Upper, spec.Root.Work = "", ""
		spec.Root.Lower = []string{overlayStubs(t), e.Lower}
		spec.Limits = dag.Limits{CPUShares: shares, CpusetCPUs: "0"}
		wg.Go(func() {
			exit, err := e.Sandbox.Run(t.Context(), spec)
			if err != nil {
				t.Error(err)
			}
			used[i] = time.Duration(exit.CPUNanos).Seconds()
		})
	}
	wg.Wait()
	ratio := used[0] / used[1]
	t.Logf("shares 3 to 1: %.3f s and %.3f s of CPU (%.2f)", used[0], used[1], ratio)
	if ratio < 2.5 || ratio > 3.5 {
		t.Errorf("got %.2f times as much time with 3 times the shares", ratio)
	}
}

func testCpuset(t *testing.T, e *Env) {
	spec := e.Shell("grep Cpus_allowed_list /proc/self/status | cut -f2; cat /dev/null")
	spec.Limits.CpusetCPUs = "0"
	if got := e.Must(t, spec); got != "0" {
		t.Errorf("got %q", got)
	}
}

// diskOf is the disk that a folder is on; the test is skipped if it is on none.
func diskOf(t *testing.T, dir string) (major, minor int64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	sys, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		t.Skipf("%s is on no block device (%s)", dir, number)
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(sys), "dev"))
		if err != nil {
			t.Fatal(err)
		}
		number = strings.TrimSpace(string(b))
	}
	if _, err := fmt.Sscanf(number, "%d:%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major, minor
}

// Reads and writes that go to the device take as long as they must.
func testIOLimit(t *testing.T, e *Env) {
	needExact(t, e, dag.Limits{IO: &dag.IOLimits{}})
	major, minor := diskOf(t, e.Upper)
	rate := func(n uint64) []dag.DeviceRate { return []dag.DeviceRate{{Major: major, Minor: minor, Rate: n}} }
	for _, c := range []struct {
		name, dd string
		limits   dag.IOLimits
		amount   float64
		rate     float64
	}{
		{"bytes written", "if=/dev/zero of=/f oflag=direct bs=64k count=128", dag.IOLimits{WriteBPS: rate(8 << 20)}, 8 << 20, 8 << 20},
		{"bytes read", "if=/f of=/dev/null iflag=direct bs=64k count=128", dag.IOLimits{ReadBPS: rate(8 << 20)}, 8 << 20, 8 << 20},
		{"writes", "if=/dev/zero of=/f oflag=direct conv=notrunc bs=4k count=300", dag.IOLimits{WriteIOPS: rate(200)}, 300, 200},
		{"reads", "if=/f of=/dev/null iflag=direct bs=4k count=300", dag.IOLimits{ReadIOPS: rate(200)}, 300, 200},
	} {
		spec := e.Shell("a=$(cut -d' ' -f1 /proc/uptime); dd " + c.dd + " 2>/dev/null || exit 1; b=$(cut -d' ' -f1 /proc/uptime); echo $a $b")
		spec.Limits.IO = &c.limits
		r := e.Run(t, spec)
		if r.Code != 0 {
			t.Fatalf("%s: %+v", c.name, r)
		}
		within(t, c.name, c.amount/took(t, r.Out), c.rate)
	}
}

// The script has a child, cut, at its beginning and at its end.
func testUsage(t *testing.T, e *Env) {
	spec := e.Shell(busy(150_000))
	r := e.Run(t, spec)
	if cpu := time.Duration(r.CPUNanos).Seconds(); cpu < 0.01 || cpu > took(t, r.Out)+0.03 || r.SystemNanos > r.CPUNanos {
		t.Errorf("CPU time %.3f s of %.3f s: %+v", cpu, took(t, r.Out), r.Exit)
	}
	if r.PeakMemory < 50<<10 || r.PeakMemory > 8<<20 || r.ReadBytes > 1<<20 || r.WriteBytes > 1<<20 || r.Processes < 1 || r.Processes > 2 {
		t.Errorf("a shell: %+v", r.Exit)
	}
}

// What goes to storage and through the network is counted, and so are processes.
func testAccounting(t *testing.T, e *Env) {
	r := e.Run(t, e.Shell("true"))
	if r.Network == nil || *r.Network != (sandbox.NetworkUsage{}) {
		t.Errorf("network %+v", r.Network)
	}
	r = e.Run(t, e.Shell("head -c 50000000 /dev/zero | tail -c 50000000 > /dev/null; head -c 10000000 /dev/zero > /f; sync; (sleep 0.3 & sleep 0.3 & sleep 0.3 & wait)"))
	if r.PeakMemory < 48<<20 || r.PeakMemory > 120<<20 {
		t.Errorf("memory %d", r.PeakMemory)
	}
	if r.WriteBytes < 10_000_000 || r.WriteBytes > 12_000_000 {
		t.Errorf("written %d", r.WriteBytes)
	}
	if r.Processes < 4 || r.Processes > 5 {
		t.Errorf("%d processes", r.Processes)
	}
	spec := e.Shell("true")
	spec.Network = dag.NetHost
	if r := e.Run(t, spec); r.Network != nil {
		t.Errorf("with the host's network: %+v", r.Network)
	}
	spec = e.Shell("ping -c 3 -i 0.1 -s 1000 100.127.255.253")
	spec.Network = dag.NetDefault
	if r := e.Run(t, spec); r.Network == nil || r.Network.TxBytes < 3000 || r.Network.TxBytes > 4500 || r.Network.RxBytes < 3000 || r.Network.RxBytes > 4500 {
		t.Errorf("3 pings of 1000 bytes: %+v %+v", r.Network, r)
	}
}
