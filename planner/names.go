package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// name puts a step's number in its stage before its text: "[build 2/5] RUN make".
func (l *lowering) name(st *stage, text string, p ocispec.Platform, e settings.Env, onbuild bool) string {
	if st.total == 0 {
		return text
	}
	prefix := ""
	if l.multi {
		prefix = platforms.FormatAll(p) + crossTarget(p, e) + " "
	}
	if !l.solo {
		prefix += st.name + " "
	}
	st.steps++
	width := len(fmt.Sprint(st.total))
	prefix = fmt.Sprintf("[%s%*d/%d] ", prefix, width, st.steps, st.total)
	if onbuild {
		prefix += "ONBUILD "
	}
	return prefix + text
}

// alike says by what a step can be recognised in later builds, whatever was inserted
// before it: its instruction as it is written, and which of its kind it is, in its stage.
func (in *instruction) alike(op dag.Op) []string {
	st := in.st
	if st.alike == nil {
		st.alike = map[string]int{}
	}
	// An instruction that ONBUILD keeps is none of this file.
	stage := fmt.Sprintf("%s\n%s\n%s\n%t\n", st.name, platforms.FormatAll(in.target), op.Kind(), in.cmd.isOnBuild)
	names := []string{stage + in.cmd.Name()}
	if written, ok := in.cmd.Command.(fmt.Stringer); ok {
		names = slices.Insert(names, 0, stage+written.String())
	}
	for i, n := range names {
		st.alike[n]++
		names[i] = fmt.Sprintf("%s\n%d", n, st.alike[n])
	}
	return names
}

// crossTarget is "->arm64" for a stage that runs on p and makes something for
// another platform, as its TARGET variables tell.
func crossTarget(p ocispec.Platform, e settings.Env) string {
	t, ok := targetOf(p, e)
	if !ok || t.OS == p.OS && t.Architecture == p.Architecture {
		return ""
	}
	if t.OS != p.OS {
		return "->" + platforms.FormatAll(t)
	}
	if t.Variant != "" {
		return "->" + t.Architecture + "/" + t.Variant
	}
	return "->" + t.Architecture
}

func targetOf(p ocispec.Platform, e settings.Env) (ocispec.Platform, bool) {
	if v, ok := e.Get("TARGETPLATFORM"); ok {
		if t, err := platforms.Parse(v); err == nil {
			return platforms.Normalize(t), true
		}
	}
	t, found := p, false
	if v, ok := e.Get("TARGETOS"); ok {
		t.OS, found = v, true
	}
	if v, ok := e.Get("TARGETARCH"); ok {
		t.Architecture, t.Variant, found = v, "", true
	}
	if v, ok := e.Get("TARGETVARIANT"); ok {
		t.Variant, found = v, true
	}
	return platforms.Normalize(t), found
}

// display is an instruction's source as users see it: variables expanded, the
// keyword in upper case.
func display(lex *shell.Lex, source string, vars shell.EnvGetter) string {
	if s, _, err := lex.ProcessWord(source, vars); err == nil {
		source = s
	}
	keyword, rest, ok := strings.Cut(source, " ")
	if !ok {
		return strings.ToUpper(source)
	}
	return strings.ToUpper(keyword) + " " + rest
}

// runLex expands what is shown of a RUN, which a shell will read, and leaves its
// quotes alone.
func (l *lowering) runLex() *shell.Lex {
	lex := l.file.ShellLex()
	lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	return lex
}

func (l *lowering) locations(loc []bk.Range) []dag.Location {
	start, end := parser.Lines(loc)
	return []dag.Location{{File: l.file.Name, Start: start, End: end}}
}
