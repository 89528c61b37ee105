package executor

import (
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
)

// What changed is told in words of the Dockerfile, and without values.
func TestDescribe(t *testing.T) {
	base := &dag.Step{Op: &dag.Source{Image: &dag.ImageSource{Ref: "a"}}, Meta: dag.Meta{Name: "FROM a"}}
	n := &dag.Step{Op: &dag.Exec{}, Inputs: []dag.Edge{{Step: base}}, Meta: dag.Meta{Args: []string{"GIT_SHA"}}}
	for _, c := range []struct {
		change Change
		want   string
	}{
		{Change{"env", `["A=1","GIT_SHA=secret"]`, `["A=1","GIT_SHA=other"]`}, "ARG GIT_SHA changed"},
		{Change{"env", `["A=1"]`, `["A=1","B=2"]`}, "ENV B is new"},
		{Change{"env", `["A=1","B=2"]`, `["A=1"]`}, "variable B is gone"},
		{Change{"env", `["A=1","B=2"]`, `["B=2","A=1"]`}, "the order of variables changed"},
		{Change{"args", `["x"]`, `["y"]`}, "the instruction changed"},
		{Change{"input 1 src/a.go", "x", "y"}, "src/a.go changed"},
		{Change{"input 1 src/a.go", "x", ""}, "src/a.go is gone"},
		{Change{"input 0", "x", "y"}, "the result of FROM a changed"},
		{Change{"input 7", "x", "y"}, "input 7 changed"},
		{Change{"input 0 base image", "a@sha256:1111111111112", "a@sha256:2222222222223"}, "base image moved from sha256:111111111111 to sha256:222222222222"},
		{Change{"input 0 base image", "a@sha256:1", "b@sha256:2"}, "base image moved from a@sha256:1 to b@sha256:2"},
		{Change{"input 0 base image", "", "a@sha256:2"}, "it follows FROM a now"},
	} {
		if got := strings.Join(describe(n, []Change{c.change}), ", "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.change, got, c.want)
		}
	}
	all := []Change{{"input 0", "x", "y"}, {"input 1 f", "x", "y"}, {"args", "x", "y"}, {"input 2", "x", "y"}}
	if got, want := (&Lookup{Reasons: describe(n, all), Places: []string{"no entry in x"}}).Reason(), "the instruction changed, f changed, the result of FROM a changed, 1 more, no entry in x"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
