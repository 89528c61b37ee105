package runc

import (
	"sync"
	"testing"

	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

// TestSeveralSandboxes proves that the sandboxes of one process, as several builds at once
// have them, keep their own limits, and that closing one takes nothing from another.
func TestSeveralSandboxes(t *testing.T) {
	open := func(memory int64) *Sandbox {
		s, err := New(Options{StateDir: t.TempDir(), Total: dag.Limits{Memory: memory}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	small, large := open(64<<20), open(1<<30)
	if small.cgroups.Rest().Memory != 0 {
		t.Skip("needs cgroups that this user may write to")
	}
	grow := func(s *Sandbox) bool {
		env := sandboxtest.NewEnv(t, s)
		return env.Run(t, env.Shell(sandboxtest.Growing(40_000_000, 200_000_000))).OOM
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if !grow(small) {
			t.Error("the smaller limit was not kept")
		}
	})
	wg.Go(func() {
		if grow(large) {
			t.Error("the other's limit counted")
		}
	})
	wg.Wait()
	if err := small.Close(); err != nil {
		t.Error(err)
	}
	if grow(large) {
		t.Error("the limit of one that is closed counts")
	}
	if err := large.Close(); err != nil {
		t.Error(err)
	}
}
