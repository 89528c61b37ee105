package planner

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

// TestBuildKitFacts compares plans with what BuildKit's own frontend was recorded
// to make of the same Dockerfiles (testdata/oracle): names of steps, operations,
// history, configuration and warnings.
func TestBuildKitFacts(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	compared := 0
	for _, path := range paths {
		g := readGolden(t, path)
		want := string(g.file("buildkit"))
		if want == "" {
			if g.file("deviates") == nil && g.file("error") == nil {
				t.Errorf("%s: no facts are recorded and no deviation is explained", path)
			}
			continue
		}
		compared++
		plan, err := g.build(t)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got := facts(t, plan)
		if g.file("names deviate") != nil {
			got, want = withoutSteps(got), withoutSteps(want)
		}
		if got != want {
			t.Errorf("%s:\n--- BuildKit\n%s--- got\n%s", path, want, got)
		}
	}
	if compared < 10 {
		t.Errorf("only %d archives have facts", compared)
	}
}

// facts writes a plan as the oracle writes BuildKit's result.
func facts(t *testing.T, p *Plan) string {
	t.Helper()
	var b strings.Builder
	writeSorted(&b, stepNames(p.Graph))
	writeSorted(&b, opLines(p.Graph))
	img := p.Targets[0]
	for _, in := range img.Instructions {
		fmt.Fprintf(&b, "history %v %q\n", in.EmptyLayer, in.CreatedBy)
	}
	config, err := json.MarshalIndent(img.Config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "config %s\n", config)
	writeSorted(&b, warningLines(p.Warnings))
	return b.String()
}

func withoutSteps(facts string) string {
	var b strings.Builder
	for line := range strings.Lines(facts) {
		if !strings.HasPrefix(line, "step ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func stepNames(g *dag.Graph) []string {
	var lines []string
	for _, s := range g.Steps {
		if !strings.HasPrefix(s.Meta.Name, "[internal]") {
			lines = append(lines, fmt.Sprintf("step %q\n", s.Meta.Name))
		}
	}
	return lines
}

func warningLines(ws []parser.Warning) []string {
	var lines []string
	for _, w := range ws {
		if slices.Contains(ownRules(), w.Rule) {
			continue
		}
		lines = append(lines, fmt.Sprintf("warning %s:%d %s: %s\n", w.File, w.Start, w.Rule, w.Message))
	}
	return lines
}

func writeSorted(b *strings.Builder, lines []string) {
	slices.Sort(lines)
	for _, l := range slices.Compact(lines) {
		b.WriteString(l)
	}
}

// ownRules are the names of the rules that are not BuildKit's and need no step to run.
func ownRules() []string { return append(adviceRules(), ruleSeveral().Name) }
