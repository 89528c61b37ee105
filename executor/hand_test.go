package executor_test

import (
	"errors"
	"strings"
	"testing"

	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// TestGraphsMadeByHand proves that nothing is done for a graph with a step that is not
// valid, wherever in the graph that is: no planner has looked at it.
func TestGraphsMadeByHand(t *testing.T) {
	mount := func(m dag.Mount) *dag.Step {
		s := exec("bad", image("alpine"))
		op := s.Op.(*dag.Exec)
		m.Type, m.Dest = dag.MountBind, "/m"
		op.Mounts = append(op.Mounts, m)
		return s
	}
	twice := mount(dag.Mount{Input: 0, Output: 1})
	again := twice.Op.(*dag.Exec).Mounts[1]
	again.Dest = "/n"
	twice.Op.(*dag.Exec).Mounts = append(twice.Op.(*dag.Exec).Mounts, again)
	network := exec("bad", image("alpine"))
	network.Op.(*dag.Exec).Network = "host "
	for want, bad := range map[string]*dag.Step{
		"output 1099511627776":   mount(dag.Mount{Input: 0, Output: 1 << 40}),
		"output -1":              mount(dag.Mount{Input: 0, Output: -1}),
		"output 1 is not":        twice,
		"refers to input 7":      mount(dag.Mount{Input: 7}),
		"no network \"host \"":   network,
		"without an operation":   {Inputs: []dag.Edge{{Step: image("alpine")}}, Meta: dag.Meta{Name: "bad"}},
		"it needs 1":             {Op: &dag.Merge{}, Meta: dag.Meta{Name: "bad"}},
		"\"\\xff\" is not valid": {Op: &dag.Exec{Args: []string{"\xff"}}, Meta: dag.Meta{Name: "bad"}},
	} {
		b := newBench(&fakeWorker{}, &cachetest.Memory{})
		_, err := b.Solve(t.Context(), roots(exec("top", image("debian"), bad)))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `step "bad"`) {
			t.Errorf("got %v, want %s", err, want)
		}
		if ran := b.w.reset(); ran != "" || len(b.rec.events) > 0 {
			t.Errorf("%s: ran %q", want, ran)
		}
	}
}

// TestNotAllowed proves that who may not do a step does not get what another build made
// with it either.
func TestNotAllowed(t *testing.T) {
	b := newBench(&fakeWorker{}, &cachetest.Memory{})
	top := func() *dag.Step { return exec("top", exec("secret", image("alpine"))) }
	b.solve(t, top())
	b.w.reset()
	b.w.denied = "secret"
	b.Solver, b.rec.events = executor.New(b.opts), nil
	_, err := b.Solve(t.Context(), roots(top()))
	var se *executor.StepError
	if !errors.Is(err, executor.ErrNotAllowed) || !errors.As(err, &se) || se.Step.Meta.Name != "secret" {
		t.Errorf("got %v", err)
	}
	if _, err := b.Plan(t.Context(), roots(top())); !errors.Is(err, executor.ErrNotAllowed) {
		t.Errorf("a dry run gave %v", err)
	}
	if ran := b.w.reset(); ran != "" || len(b.rec.events) > 0 {
		t.Errorf("ran %q, with %d events", ran, len(b.rec.events))
	}
}

// TestVolumesAreNeverCached proves that a step which reads what has no key runs in every
// build, whoever made its graph.
func TestVolumesAreNeverCached(t *testing.T) {
	b := newBench(&fakeWorker{}, &cachetest.Memory{})
	for range 2 {
		s := exec("reads", image("alpine"))
		s.Op.(*dag.Exec).Volumes = []dag.Volume{{Source: "/etc", Dest: "/mnt"}}
		b.solve(t, exec("top", s))
	}
	if ran := b.w.reset(); strings.Count(ran, "reads") != 2 || strings.Count(ran, "top") != 1 {
		t.Errorf("ran %q", ran)
	}
}
