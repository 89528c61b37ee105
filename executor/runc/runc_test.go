package runc

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

func TestConformance(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) sandbox.Sandbox { return newSandbox(t) })
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
