package parser

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// The rules below are BuildKit's, which keeps them beside its LLB conversion
// (dockerfile2llb/validations.go) where they cannot be imported from.

func warnEmptyContinuations(ws []bk.Warning, lint *linter.Linter) {
	for _, w := range ws {
		if w.URL == linter.RuleNoEmptyContinuation.URL && w.Location != nil {
			lint.Run(&linter.RuleNoEmptyContinuation, []bk.Range{*w.Location}, linter.RuleNoEmptyContinuation.Format())
		}
	}
}

func lintStageNames(stages []instructions.Stage, lint *linter.Linter) {
	seen := map[string]bool{}
	for _, st := range stages {
		if st.Name == "" {
			continue
		}
		if st.Name == "context" || st.Name == "scratch" {
			lint.Run(&linter.RuleReservedStageName, st.Location, linter.RuleReservedStageName.Format(st.Name))
		}
		if seen[st.Name] {
			lint.Run(&linter.RuleDuplicateStageName, st.Location, linter.RuleDuplicateStageName.Format(st.Name))
		}
		seen[st.Name] = true
	}
}

type named struct {
	name     string
	location []bk.Range
}

func lintCasing(stages []instructions.Stage, lint *linter.Linter) {
	var all []named
	for _, st := range stages {
		all = append(all, named{st.OrigCmd, st.Location})
		for _, c := range st.Commands {
			all = append(all, named{c.Name(), c.Location()})
		}
	}
	lower, upper := 0, 0
	for _, n := range all {
		switch n.name {
		case strings.ToLower(n.name):
			lower++
		case strings.ToUpper(n.name):
			upper++
		}
	}
	want, fold := "uppercase", strings.ToUpper
	if lower > upper {
		want, fold = "lowercase", strings.ToLower
	}
	for _, n := range all {
		if n.name != fold(n.name) {
			lint.Run(&linter.RuleConsistentInstructionCasing, n.location,
				linter.RuleConsistentInstructionCasing.Format(n.name, want))
		}
	}
}
