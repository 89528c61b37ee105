package executor_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// TestFindings proves that what a step found is told each time that its result is used,
// under whatever key, only if its rule is not skipped, and that it fails a step that wants
// that, also one that is cached.
func TestFindings(t *testing.T) {
	w := &fakeWorker{
		found:   map[string][]cache.Finding{"top": {{Rule: "A", Text: "a is odd"}, {Rule: "B", Text: "so is b"}}},
		content: map[string]string{"left": "same", "other": "same"},
	}
	var told []string
	b := newBench(w, &cachetest.Memory{})
	b.opts.Observer = func(ev executor.Event) {
		if ev.Type == executor.EventWarning {
			told = append(told, fmt.Sprintf("%s %s %s", ev.Step.Meta.Name, ev.Rule, ev.Data))
			return
		}
		b.rec.observe(ev)
	}
	build := func(left string, checks dag.Checks) error {
		told = nil
		top := diamond(left)
		top.Meta.Checks = checks
		b.Solver, b.rec.events = executor.New(b.opts), nil
		_, err := b.Solve(t.Context(), roots(top))
		return err
	}
	both := []dag.Rule{"A", "B"}
	for _, tc := range []struct {
		name, left string
		checks     dag.Checks
		how        executor.EventType
		want       []string
	}{
		{"run", "left", dag.Checks{Rules: both}, executor.EventDone, []string{"top A a is odd", "top B so is b"}},
		{"cached", "left", dag.Checks{Rules: both}, executor.EventCached, []string{"top A a is odd", "top B so is b"}},
		{"cached by content", "other", dag.Checks{Rules: both}, executor.EventCached, []string{"top A a is odd", "top B so is b"}},
		{"cached by definition after that", "other", dag.Checks{Rules: both}, executor.EventCached, []string{"top A a is odd", "top B so is b"}},
		{"one rule skipped", "left", dag.Checks{Rules: []dag.Rule{"B"}}, executor.EventCached, []string{"top B so is b"}},
		{"all skipped", "left", dag.Checks{Fail: true}, executor.EventCached, nil},
	} {
		if err := build(tc.left, tc.checks); err != nil {
			t.Fatal(err)
		}
		if got := b.rec.last["top"].Type; got != tc.how || !slices.Equal(told, tc.want) {
			t.Errorf("%s: %s, told %q", tc.name, got, told)
		}
	}
	w.reset()
	for _, left := range []string{"left", "another"} {
		for range 2 {
			err := build(left, dag.Checks{Rules: both, Fail: true})
			var found *executor.FindingError
			var step *executor.StepError
			if !errors.As(err, &found) || !errors.As(err, &step) || step.Step.Meta.Name != "top" || len(told) != 2 ||
				!strings.Contains(err.Error(), "lint violation found for rules: A, B: a is odd; so is b") {
				t.Errorf("%s: %v, told %q", left, err, told)
			}
			if b.rec.last["top"].Type != executor.EventFailed {
				t.Errorf("%s: the last event is %+v", left, b.rec.last["top"])
			}
		}
	}
	if ran := w.reset(); ran != "alpine alpine alpine alpine another top" {
		t.Errorf("ran %q: a step that failed for its findings is not made again", ran)
	}
}
