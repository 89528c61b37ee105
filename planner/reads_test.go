package planner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
)

// TestReads proves that local sources know what the build reads of them: all that is
// needed, and nothing else.
func TestReads(t *testing.T) {
	other := &NamedContext{Source: &dag.Source{Local: &dag.LocalSource{Name: "context:other"}}}
	src := "FROM alpine AS unused\nCOPY unused /x\nFROM alpine AS used\nENV D=dir\nCOPY $D/*.txt b /d/\nRUN --mount=type=bind,source=m,target=/m true\n" +
		"FROM alpine\nADD d b https://example.org/x /e/\nCOPY --from=used /stage /s\nCOPY --from=other o* /o/\nCOPY --parents p/./q /q/\nCOPY <<E /here\nE\n"
	for whole, want := range map[bool]string{
		false: "context [b d dir/*.txt m p/q]; context:other [o*]",
		true:  "context []; context:other [o*]",
	} {
		p, err := plan(t, src, Options{Contexts: map[string]*NamedContext{"other": other}, WholeContext: whole})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range p.Graph.Steps {
			if src, ok := s.Op.(*dag.Source); ok && src.Local != nil {
				got = append(got, fmt.Sprintf("%s %v", src.Local.Name, s.Meta.Reads))
			}
		}
		slices.Sort(got)
		if strings.Join(got, "; ") != want {
			t.Errorf("whole %v: got %s, want %s", whole, strings.Join(got, "; "), want)
		}
	}
}
