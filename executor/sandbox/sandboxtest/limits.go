package sandboxtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	limits := dag.Limits{Memory: limit, MemorySwap: limit}
	grow, name := "tail -c 400000000 /dev/zero", "tail"
	if !exactly(e, limits) {
		grow, name = Growing(80_000_000, 400_000_000), "awk"
	}
	spec := e.Shell("echo first; " + grow + "; echo code $?; sleep 0.01")
	spec.Limits = limits
	r := e.Run(t, spec)
	if !r.OOM || r.Out != "first\ncode 137\n" {
		t.Errorf("got code %d, OOM %v, %q", r.Code, r.OOM, r.Out)
	}
	if v := r.Victims; len(v) != 1 || v[0].Name != "" && v[0].Name != name || v[0].Limit != limit || v[0].PID == 1 {
		t.Errorf("victims %+v", v)
	} else {
		t.Logf("victim %+v", v[0])
	}
	if exactly(e, spec.Limits) {
		within(t, "memory", float64(r.PeakMemory), limit)
	} else if t.Logf("memory: %d of %d", r.PeakMemory, limit); r.PeakMemory > limit*2 {
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	if r.PeakMemory < limit*7/10 {
		t.Errorf("peak memory %d", r.PeakMemory)
	}
	// Of two that are killed both are known.
	second := "sort </dev/zero"
	if name == "awk" {
		second = grow
	}
	spec = e.Shell(grow + "; " + second + "; echo code $?")
	spec.Limits = limits
	r = e.Run(t, spec)
	v := r.Victims
	if !r.OOM || r.Out != "code 137\n" || len(v) != 2 && (len(v) != 1 || v[0].Name != "") || len(v) == 2 && (v[0].Name != name || v[1].Name != strings.Fields(second)[0]) {
		t.Errorf("of two that were killed: %+v", r)
	}
	// What needs nine tenths of it is let through.
	spec = e.Shell("head -c 115000000 /dev/zero | tail -c 115000000 | wc -c")
	spec.Limits = limits
	if r := e.Run(t, spec); r.Code != 0 || r.OOM || r.Victims != nil || r.Out != "115000000\n" {
		t.Errorf("a process that fits: %+v", r)
	}
}

func testPidsLimit(t *testing.T, e *Env) {
	spec := e.Shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & echo x; done; sleep 600; echo all")
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

// spins is a script that uses one processor, from its beginning to its end.
const spins = "while true; do true; done &"

func testCPULimit(t *testing.T, e *Env) {
	for name, l := range map[string]dag.Limits{
		"cpus": {CPUs: 0.4}, "quota": {CPUQuota: 20_000, CPUPeriod: 50_000},
	} {
		needExact(t, e, l)
		spec := e.Shell("")
		spec.Limits = l
		h := e.hold(t, spec, spins, "kill -9 $!")
		if got := h.quota(t); got < 0.399 || got > 0.401 {
			t.Errorf("%s: the cgroup grants %g processors", name, got)
		}
		// Whoever else runs, these get no more than that. A container may have
		// the whole of a period's time at its beginning and at its end.
		begin, before := time.Now(), h.used(t)
		var used time.Duration
		await(t, func() string {
			if used = h.used(t) - before; used < 400*time.Millisecond {
				return fmt.Sprintf("%s: a process that is busy has used %v", name, used)
			}
			return ""
		})
		const slack = 2 * 0.04
		within(t, name, used.Seconds(), 0.4*time.Since(begin).Seconds()+slack)
		if r := h.end(); r.Code != 0 {
			t.Fatalf("got %+v", r)
		}
	}
}

// Two containers on one processor get time in proportion to their shares, however
// much of it others leave.
func testCPUShares(t *testing.T, e *Env) {
	needExact(t, e, dag.Limits{CPUShares: 2, CpusetCPUs: "0"})
	var both [2]*held
	for i, shares := range []uint64{3072, 1024} {
		spec := e.Shell("")
		spec.Root.Upper, spec.Root.Work = "", ""
		spec.Root.Lower = []string{overlayStubs(t), e.Lower}
		spec.Limits = dag.Limits{CPUShares: shares, CpusetCPUs: "0"}
		both[i] = e.hold(t, spec, spins, "kill -9 $!")
	}
	before := [2]time.Duration{both[0].used(t), both[1].used(t)} // both run from now on
	var used [2]time.Duration
	await(t, func() string {
		used = [2]time.Duration{both[0].used(t) - before[0], both[1].used(t) - before[1]}
		if sum := used[0] + used[1]; sum < 2*time.Second {
			return fmt.Sprintf("two processes that are busy have used %v", sum)
		}
		return ""
	})
	ratio := used[0].Seconds() / used[1].Seconds()
	t.Logf("shares 3 to 1: %v and %v of CPU (%.2f)", used[0], used[1], ratio)
	if ratio < 2 || ratio > 4.5 {
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

// took is how many seconds a script took that prints the time before and after.
func took(t *testing.T, out string) float64 {
	t.Helper()
	var a, b float64
	if _, err := fmt.Sscan(out, &a, &b); err != nil {
		t.Fatalf("output %q: %v", out, err)
	}
	return b - a
}

// The limits are those of the cgroup, and reads and writes that go to the device take
// as long as they must, or longer.
func testIOLimit(t *testing.T, e *Env) {
	needExact(t, e, dag.Limits{IO: &dag.IOLimits{}})
	major, minor := diskOf(t, e.Upper)
	rate := func(n uint64) []dag.DeviceRate { return []dag.DeviceRate{{Major: major, Minor: minor, Rate: n}} }
	for _, c := range []struct {
		name, dd   string
		limits     dag.IOLimits
		amount     float64
		rate       int
		file, word string // of cgroup v1, of v2's io.max
	}{
		{"bytes written", "if=/dev/zero of=/f oflag=direct bs=64k count=128", dag.IOLimits{WriteBPS: rate(8 << 20)}, 8 << 20, 8 << 20, "write_bps_device", "wbps"},
		{"bytes read", "if=/f of=/dev/null iflag=direct bs=64k count=128", dag.IOLimits{ReadBPS: rate(8 << 20)}, 8 << 20, 8 << 20, "read_bps_device", "rbps"},
		{"writes", "if=/dev/zero of=/f oflag=direct conv=notrunc bs=4k count=300", dag.IOLimits{WriteIOPS: rate(200)}, 300, 200, "write_iops_device", "wiops"},
		{"reads", "if=/f of=/dev/null iflag=direct bs=4k count=300", dag.IOLimits{ReadIOPS: rate(200)}, 300, 200, "read_iops_device", "riops"},
	} {
		spec := e.Shell("")
		spec.Limits.IO = &c.limits
		h := e.hold(t, spec, "", "a=$(cut -d' ' -f1 /proc/uptime); dd "+c.dd+" 2>/dev/null || exit 1; b=$(cut -d' ' -f1 /proc/uptime); echo $a $b")
		got := h.cgroup("blkio.throttle." + c.file)
		want := fmt.Sprintf("%d:%d %d", major, minor, c.rate)
		if unified := h.cgroup("io.max"); unified != "" {
			got, want = unified+" ", fmt.Sprintf(" %s=%d ", c.word, c.rate)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: the cgroup's limit is %q, want %q", c.name, got, want)
		}
		r := h.end()
		if r.Code != 0 {
			t.Fatalf("%s: %+v", c.name, r)
		}
		within(t, c.name, c.amount/took(t, r.Out), 1.1*float64(c.rate)) // the kernel lets a tenth of a second go ahead
	}
}

// What the script has used by itself is what is reported, and a little more, but not
// what its container needed.
func testUsage(t *testing.T, e *Env) {
	// The shell is the container's first process: what it has used when it begins is the
	// container's preparation.
	times := "cut -d' ' -f14,15 /proc/$$/stat; "
	r := e.Run(t, e.Shell(times+"i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; "+times))
	var user, system [2]int64 // in hundredths of a second, rounded down
	if _, err := fmt.Sscan(r.Out, &user[0], &system[0], &user[1], &system[1]); err != nil {
		t.Fatalf("output %q: %v", r.Out, err)
	}
	own := time.Duration(user[1]-user[0]+system[1]-system[0]) * 10 * time.Millisecond
	cpu := time.Duration(r.CPUNanos)
	t.Logf("CPU time %v of a script that says %v", cpu, own)
	if own == 0 || cpu < own-20*time.Millisecond || cpu > own+150*time.Millisecond || r.SystemNanos > r.CPUNanos {
		t.Errorf("CPU time %v of a script that has used %v: %+v", cpu, own, r.Exit)
	}
	if r.PeakMemory < 50<<10 || r.PeakMemory > 64<<20 || r.ReadBytes > 8<<20 || r.WriteBytes > 1<<20 || r.Processes < 1 || r.Processes > 2 {
		t.Errorf("a shell: %+v", r.Exit)
	}
}

// What goes to storage and through the network is counted, and so are processes.
func testAccounting(t *testing.T, e *Env) {
	r := e.Run(t, e.Shell("true"))
	if r.Network == nil || *r.Network != (sandbox.NetworkUsage{}) {
		t.Errorf("network %+v", r.Network)
	}
	r = e.Run(t, e.Shell("head -c 50000000 /dev/zero | tail -c 50000000 > /dev/null; head -c 10000000 /dev/zero > /f; sync"))
	if r.PeakMemory < 48<<20 || r.PeakMemory > 120<<20 {
		t.Errorf("memory %d", r.PeakMemory)
	}
	if r.WriteBytes < 10_000_000 || r.WriteBytes > 12_000_000 {
		t.Errorf("written %d", r.WriteBytes)
	}
	// They are counted from time to time, and more rarely where that takes long.
	for _, seconds := range []string{"0.3", "1.5", "7", "30"} {
		s := "sleep " + seconds
		r = e.Run(t, e.Shell("("+s+" & "+s+" & "+s+" & wait)"))
		if r.Processes >= 4 {
			break
		}
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
