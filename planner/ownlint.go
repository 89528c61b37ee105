package planner

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/shelltext"
)

// The rules of this builder, beside BuildKit's. docs/LINT.md explains them. They
// can be skipped like BuildKit's. "# check=error=true" does not make errors of those
// that only advise: a Dockerfile that builds with BuildKit builds here.

func ruleHeredoc() *linter.LinterRule[func() string] {
	return &linter.LinterRule[func() string]{
		Name:        "HeredocWithoutErrexit",
		Description: "A here-document of several commands goes on after one fails unless it begins with set -e",
		Format: func() string {
			return "A failing command in the here-document does not fail the RUN, unless it is the last one: begin with `set -e`"
		},
	}
}

func ruleVolatileArg() *linter.LinterRule[func(string) string] {
	return &linter.LinterRule[func(string) string]{
		Name:        "VolatileArgBeforeRun",
		Description: "An ARG that changes with every build makes every later RUN of the stage run again",
		Format: func(name string) string {
			return "ARG " + name + " makes RUN instructions that do not use it run again whenever it changes: declare it after them"
		},
	}
}

func ruleRecursiveOwner() *linter.LinterRule[func(string, string) string] {
	return &linter.LinterRule[func(string, string) string]{
		Name:        "RecursiveOwnerChange",
		Description: "Changing owner or mode of copied files in a RUN stores them a second time",
		Format: func(program, dir string) string {
			return program + " -R stores the files of " + dir + " a second time: use COPY --" + program + " instead"
		},
	}
}

func ruleSeveral() *linter.LinterRule[func(string, string) string] {
	return &linter.LinterRule[func(string, string) string]{
		Name:        "CopySeveralWithoutSlash",
		Description: "The destination of several sources should end with a slash: if it is no directory, files replace each other there",
		Format: func(keyword, dest string) string {
			return keyword + " has several sources, and its destination " + dest + " does not end with a slash: unless it is a directory, files replace each other there"
		},
	}
}

// adviceRules are the names of the rules that never fail a build. None is BuildKit's.
func adviceRules() []string {
	return []string{ruleHeredoc().Name, ruleVolatileArg().Name, ruleRecursiveOwner().Name}
}

// checks say which findings of an instruction's step count. What the trigger of a base
// image does is not this file's.
func (in *instruction) checks() dag.Checks {
	if in.cmd.isOnBuild || in.lint.SkipAll {
		return dag.Checks{}
	}
	c := dag.Checks{Fail: in.file.FailOnWarning()}
	for _, r := range []dag.Rule{dag.RuleSourceReplaced, dag.RuleOwnerUnknown} {
		if _, skip := in.lint.SkippedRules[string(r)]; !skip {
			c.Rules = append(c.Rules, r)
		}
	}
	return c
}

// lintSeveral finds several sources whose destination may be one file.
func (in *instruction) lintSeveral(t *transfer, dest string) {
	n := len(t.files.SourcePaths) + len(t.files.SourceContents)
	if n > 1 && !strings.HasSuffix(dest, "/") && !in.cmd.isOnBuild {
		in.lint.Run(ruleSeveral(), in.cmd.Location(), ruleSeveral().Format(t.keyword, t.files.DestPath))
	}
}

// volatileArg is an ARG that may change with every build.
type volatileArg struct {
	name     string
	location []bk.Range
	lint     *linter.Linter
	reported bool
}

var (
	volatileName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^(.*_)?(git_?sha|git_?commit|git_?rev(ision)?|commit(_?(sha|hash|id))?|revision|vcs_?ref|build_?(date|time|timestamp|number|num|id)|timestamp)$`)
	})
	recursiveOwner = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`\b(chown|chmod)\s+((?:-\S+\s+)*)([^\s;&|]+)((?:\s+[^\s;&|]+)+)`)
	})
)

// lintVolatile remembers an ARG that may change with every build.
func (in *instruction) lintVolatile(name string) {
	if in.opts.ArgScope != ArgScopeUsed && volatileName().MatchString(name) {
		in.st.volatile = append(in.st.volatile, &volatileArg{name: name, location: in.cmd.Location(), lint: in.lint})
	}
}

// lintCopied remembers where files were copied to.
func (in *instruction) lintCopied(dest string) { in.st.copied = append(in.st.copied, path.Clean(dest)) }

// lintRun looks at a RUN with the rules of this builder. It returns the arguments that may
// change with every build, and that the RUN gets without naming them.
func (in *instruction) lintRun(cmd *instructions.RunCommand) (idle []string) {
	if in.cmd.isOnBuild {
		return nil // the base image's, not this file's
	}
	text := strings.Join(cmd.CmdLine, " ")
	for _, f := range cmd.Files {
		text += "\n" + f.Data
	}
	for _, v := range in.st.volatile {
		if strings.Contains(text, v.name) {
			continue
		}
		idle = append(idle, v.name)
		if !v.reported {
			v.reported = true
			v.lint.Run(ruleVolatileArg(), v.location, ruleVolatileArg().Format(v.name))
		}
	}
	in.lintHeredoc(cmd)
	in.lintOwner(text)
	return idle
}

// VolatileArg is the name of the ARG that a finding is about; it is false for findings of
// other rules than VolatileArgBeforeRun.
func VolatileArg(w parser.Warning) (string, bool) {
	rest, ok := strings.CutPrefix(w.Message, "ARG ")
	name, _, _ := strings.Cut(rest, " ")
	return name, ok && w.Rule == ruleVolatileArg().Name
}

// lintHeredoc finds a script that goes on after a failure.
func (in *instruction) lintHeredoc(cmd *instructions.RunCommand) {
	if len(cmd.Files) == 0 || len(cmd.CmdLine) != 1 || bk.MustParseHeredoc(cmd.CmdLine[0]) == nil {
		return
	}
	shell := withShell(&in.st.conf.Image, nil)
	if !strings.HasSuffix(shell[0], "sh") || slices.ContainsFunc(shell[1:], shelltext.IsErrexitFlag) {
		return
	}
	body := cmd.Files[0].Data
	if strings.HasPrefix(body, "#!") || shelltext.SetsErrexit(body) || shelltext.Commands(body) < 2 {
		return
	}
	in.lint.Run(ruleHeredoc(), in.cmd.Location(), ruleHeredoc().Format())
}

// lintOwner finds a chown -R or chmod -R of files that the stage has copied.
func (in *instruction) lintOwner(text string) {
	for _, m := range recursiveOwner().FindAllStringSubmatch(text, -1) {
		flags, args := m[2], strings.Fields(m[3]+m[4])
		if !strings.Contains(" "+flags, " -R") && !strings.Contains(flags, "--recursive") {
			continue
		}
		for _, dir := range args[1:] {
			dir = strings.Trim(dir, `"'`)
			if !path.IsAbs(dir) {
				dir = path.Join(in.cwd(), dir)
			}
			if slices.ContainsFunc(in.st.copied, func(dest string) bool { return within(path.Clean(dir), dest) }) {
				in.lint.Run(ruleRecursiveOwner(), in.cmd.Location(), ruleRecursiveOwner().Format(m[1], dir))
				return
			}
		}
	}
}

// within reports whether p is dir or lies below it.
func within(dir, p string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
