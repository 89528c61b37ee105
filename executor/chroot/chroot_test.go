package chroot

import (
	"os"
	"testing"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

func TestMain(m *testing.M) {
	Init()
	if os.Getenv(victimEnv) != "" {
		victim()
	}
	os.Exit(m.Run())
}

func newSandbox(tb testing.TB) *Sandbox {
	tb.Helper()
	s, err := New(Options{StateDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// lacks is what this way of running processes does not promise, with the reasons
// (docs/COMPATIBILITY.md). What it promises instead has tests of its own.
func lacks() map[string]string {
	return map[string]string{
		"Confinement":  "without namespaces /proc and /sys are the container's, and ids are emulated",
		"Devices":      "what mknod makes is a record, and there is no message queue file system",
		"Insecure":     "there are no privileges to give",
		"Shm":          "the size of /dev/shm is the container's",
		"MemoryLimit":  "without cgroups only the data of each process is limited",
		"CPULimit":     "there are no cgroups",
		"CPUShares":    "there are no cgroups",
		"IOLimit":      "there are no cgroups",
		"Accounting":   "without cgroups and namespaces little is counted",
		"NoNetwork":    "without a network namespace only sockets are refused",
		"NetworkTCP":   "the network is the container's",
		"HostLoopback": "the network is the container's",
	}
}

func TestLimitNotes(t *testing.T) {
	s, err := New(Options{StateDir: t.TempDir(), Total: dag.Limits{CPUs: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := dag.Limits{Memory: 1, CPUs: 1, CPUShares: 1, CpusetMems: "0", IO: &dag.IOLimits{}}
	if notes := s.LimitNotes(l, nil); len(notes) != 6 {
		t.Errorf("notes: %q", notes)
	}
	kept := dag.Limits{Pids: 1, CpusetCPUs: "0"}
	if notes := newSandbox(t).LimitNotes(kept, []dag.Ulimit{{Name: "core", Soft: 0, Hard: 0}}); len(notes) > 0 {
		t.Errorf("nothing to note: %q", notes)
	}
}

func TestConformance(t *testing.T) {
	sandboxtest.RunWith(t, sandboxtest.Promises{Plain: true, Lacks: lacks()}, func(t *testing.T) sandbox.Sandbox { return newSandbox(t) })
}
