package runc

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/rootless/rootlesstest"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
)

func TestMain(m *testing.M) {
	Init()
	rootlesstest.Enter()
	if os.Getenv(victimEnv) != "" {
		victim()
	}
	if os.Getenv(cgroup2Env) != "" {
		if err := mountCgroup2(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func newSandbox(tb testing.TB) *Sandbox {
	tb.Helper()
	fixtures.NeedRoot(tb)
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

func TestConformance(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) sandbox.Sandbox { return newSandbox(t) })
}

const cgroup2Env = "BUILDER_TEST_CGROUP2"

// mountCgroup2 makes this process, which has a mount namespace of its own, see
// the unified hierarchy only.
func mountCgroup2() error {
	if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount cgroups: %w", err)
	}
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup2: %w", err)
	}
	return nil
}

// On a machine with cgroup v1 the other kind is tested in a child, as far as
// that goes: controllers that v1 uses are not available to it.
func TestUnifiedCgroups(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || rootless.InUserNamespace() {
		t.Skip("needs root outside of user namespaces, to mount cgroup v2")
	}
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("cgroup v2 is what all tests run on here")
	}
	cmd := fixtures.Again("-test.v", "-test.run=^(TestConformance|TestCgroupParent)$/^(ExitCodes|Confinement|Devices|Insecure|Daemon|Cancel|Concurrent)$")
	cmd.Env = append(os.Environ(), cgroup2Env+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("    --- PASS")) != 7 || !bytes.Contains(out, []byte("--- PASS: TestCgroupParent")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func BenchmarkTrue(b *testing.B) { benchmark(b, dag.NetNone) }

func BenchmarkTrueNetwork(b *testing.B) { benchmark(b, dag.NetDefault) }

func benchmark(b *testing.B, network dag.Network) {
	env := sandboxtest.NewEnv(b, newSandbox(b))
	for b.Loop() {
		spec := env.Spec("/bin/true")
		spec.Network = network
		if exit, err := env.Sandbox.Run(b.Context(), spec); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}
