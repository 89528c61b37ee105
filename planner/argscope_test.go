package planner

import (
	"slices"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
)

// TestArgScope proves that an argument reaches the RUNs that name it and no others, if so is
// asked, and all of them if not.
func TestArgScope(t *testing.T) {
	src := `FROM alpine AS base
ARG GIT_SHA
ARG OTHER=other
ARG SOURCE_DATE_EPOCH=1
ENV KEPT=env HIDDEN=env
ARG HIDDEN=arg
RUN make
RUN echo "${GIT_SHA:-none}"
RUN ["printenv", "GIT_SHA"]
RUN echo MY_GIT_SHA GIT_SHAS
RUN <<EOF
set -e
echo $OTHER
EOF
RUN <<EOF
#!/usr/bin/python
print(os.environ["OTHER"])
EOF
ENV VERSION=$GIT_SHA
RUN echo $HIDDEN
SHELL ["/bin/sh", "-c", "echo $GIT_SHA; $0"]
RUN make more
FROM base
SHELL ["/bin/sh", "-c"]
RUN make image
RUN echo $GIT_SHA
`
	build := func(sha string, scope ArgScope) (vars []string, ids []dag.ID, history string) {
		p := mustPlan(t, src, Options{ArgScope: scope, BuildArgs: map[string]string{"GIT_SHA": sha}})
		for _, s := range p.Graph.Steps {
			op, ok := s.Op.(*dag.Exec)
			if !ok {
				continue
			}
			kept := slices.DeleteFunc(slices.Clone(op.Env), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
			slices.Sort(kept)
			vars, ids = append(vars, strings.Join(kept, " ")+" | "+strings.Join(s.Meta.Args, " ")), append(ids, s.ID())
		}
		for _, in := range p.Targets[0].Instructions {
			history += in.CreatedBy + "\n"
		}
		return vars, ids, history
	}
	got, ids, history := build("abc", ArgScopeUsed)
	want := []string{
		"HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 | SOURCE_DATE_EPOCH",
		"GIT_SHA=abc HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 | GIT_SHA SOURCE_DATE_EPOCH",
		"GIT_SHA=abc HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 | GIT_SHA SOURCE_DATE_EPOCH",
		"HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 | SOURCE_DATE_EPOCH",
		"HIDDEN=env KEPT=env OTHER=other SOURCE_DATE_EPOCH=1 | OTHER SOURCE_DATE_EPOCH",
		"HIDDEN=env KEPT=env OTHER=other SOURCE_DATE_EPOCH=1 | OTHER SOURCE_DATE_EPOCH",
		"HIDDEN=arg KEPT=env SOURCE_DATE_EPOCH=1 VERSION=abc | SOURCE_DATE_EPOCH HIDDEN",
		"GIT_SHA=abc HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 VERSION=abc | GIT_SHA SOURCE_DATE_EPOCH",
		"HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 VERSION=abc | SOURCE_DATE_EPOCH",
		"GIT_SHA=abc HIDDEN=env KEPT=env SOURCE_DATE_EPOCH=1 VERSION=abc | GIT_SHA SOURCE_DATE_EPOCH",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.Contains(history, "RUN |1 SOURCE_DATE_EPOCH=1 /bin/sh -c make # buildkit") {
		t.Errorf("history:\n%s", history)
	}
	if _, other, _ := build("def", ArgScopeUsed); ids[0] != other[0] || ids[1] == other[1] {
		t.Error("another value does not change those and only those that name it")
	}
	_, all, _ := build("abc", "")
	_, same, _ := build("abc", ArgScopeAll)
	_, changed, _ := build("def", ArgScopeAll)
	if !slices.Equal(all, same) || all[0] == changed[0] {
		t.Error("by default an argument does not reach every RUN")
	}
}
