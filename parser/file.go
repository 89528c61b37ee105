package parser

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// File is a parsed Dockerfile.
type File struct {
	// Name is what messages call the file.
	Name   string
	Source []byte
	// Directives are the parser directives ("# syntax=", "# escape=", "# check=")
	// in the file's order.
	Directives []Directive
	// Settings are this builder's own, comments "# builder: name=value" before the first
	// instruction, in the file's order. Others take them for comments.
	Settings []Directive
	// MetaArgs are the ARG instructions before the first FROM.
	MetaArgs []instructions.ArgCommand
	// Stages are never empty. Expanding an instruction changes it: whoever does
	// that works on an Instance.
	Stages []instructions.Stage
	// Warnings are what the rules found that need no values of variables.
	Warnings []Warning
	// EscapeToken is '\\' or '`'.
	EscapeToken rune

	ast  *bk.Node
	lint linter.Config
}

// Directive is a parser directive, or a setting.
type Directive struct {
	Name, Value string
	Line        int // 1-based
}

// ShellLex returns a lexer for expanding the file's words. A lexer is not safe
// for concurrent use; every call returns a new one.
func (f *File) ShellLex() *shell.Lex { return shell.NewLex(f.EscapeToken) }

// Instance returns stages and meta arguments that share nothing with f's, so
// that expanding their instructions in place leaves f as it is.
func (f *File) Instance() ([]instructions.Stage, []instructions.ArgCommand, error) {
	stages, args, err := instructions.Parse(f.ast, silent())
	if err != nil {
		return nil, nil, f.Wrap(err)
	}
	return stages, args, nil
}

// UserBefore returns the lines of the USER instruction that holds at a line, 0 if there
// is none before it in its stage.
func (f *File) UserBefore(line int) (start, end int) {
	for _, st := range f.Stages {
		if first, _ := Lines(st.Location); first > line {
			break
		}
		start, end = 0, 0
		for _, cmd := range st.Commands {
			if first, last := Lines(cmd.Location()); isUser(cmd) && first < line {
				start, end = first, last
			}
		}
	}
	return start, end
}

func isUser(cmd instructions.Command) bool {
	_, ok := cmd.(*instructions.UserCommand)
	return ok
}

// ArgNames are the names that the file's ARG instructions declare, sorted.
func (f *File) ArgNames() []string {
	var names []string
	add := func(args []instructions.KeyValuePairOptional) {
		for _, a := range args {
			names = append(names, a.Key)
		}
	}
	for _, c := range f.MetaArgs {
		add(c.Args)
	}
	for _, s := range f.Stages {
		for _, c := range s.Commands {
			if arg, ok := c.(*instructions.ArgCommand); ok {
				add(arg.Args)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Linter returns a linter with the file's "# check=" configuration that hands
// what it finds to warn.
func (f *File) Linter(warn func(Warning)) *linter.Linter {
	cfg := f.lint
	cfg.Warn = func(rule, description, url, msg string, location []bk.Range) {
		start, end := Lines(location)
		warn(Warning{
			Rule: rule, Description: description, URL: url, Message: msg,
			File: f.Name, Start: start, End: end,
		})
	}
	return linter.New(&cfg)
}

// silent is a linter that tells nobody. BuildKit's packages take nil for that,
// but fail on it where a comment configures the rules.
func silent() *linter.Linter { return linter.New(&linter.Config{}) }

// ParseInstruction parses the text of one instruction, as ONBUILD keeps it, as
// if it stood at the given lines.
func ParseInstruction(text string, start, end int) (instructions.Command, error) {
	res, err := bk.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	if len(res.AST.Children) != 1 {
		return nil, errors.New("it should be a single instruction")
	}
	node := res.AST.Children[0]
	node.StartLine, node.EndLine = start, end
	parsed, err := instructions.ParseInstructionWithLinter(node, silent())
	if err != nil {
		return nil, err
	}
	c, ok := parsed.(instructions.Command)
	if !ok {
		return nil, fmt.Errorf("%s is not allowed here", strings.ToUpper(node.Value))
	}
	return c, nil
}

// FailOnWarning reports whether the file asks ("# check=error=true") that lint
// findings fail the build.
func (f *File) FailOnWarning() bool { return f.lint.ReturnAsError }

// Lines returns the first and the last line of a location, 0, 0 for none.
func Lines(location []bk.Range) (start, end int) {
	for _, r := range location {
		if start == 0 || r.Start.Line < start {
			start = r.Start.Line
		}
		end = max(end, r.End.Line, r.Start.Line)
	}
	return start, end
}
