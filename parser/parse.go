package parser

import (
	"bytes"
	"errors"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Parse parses a Dockerfile. Name is what messages call it. Every error is an
// *Error; lint findings do not fail (see File.FailOnWarning).
func Parse(name string, src []byte) (*File, error) {
	return parse(name, src, nil)
}

// WithCheck parses the file again with other options for the rules than its
// "# check=" directive gives ("skip=A,B;error=true;experimental=all").
func (f *File) WithCheck(options string) (*File, error) {
	cfg, err := linter.ParseLintOptions(options)
	if err != nil {
		return nil, &Error{Msg: err.Error(), Err: err}
	}
	return parse(f.Name, f.Source, cfg)
}

func parse(name string, src []byte, check *linter.Config) (*File, error) {
	f := &File{Name: name, Source: src}
	if len(bytes.TrimSpace(src)) == 0 {
		return nil, &Error{File: name, Source: src, Msg: "the Dockerfile is empty"}
	}
	if err := f.readDirectives(); err != nil {
		return nil, err
	}
	f.readSettings()
	res, err := bk.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, f.Wrap(err)
	}
	f.ast, f.EscapeToken = res.AST, res.EscapeToken
	if err := f.checkComments(); err != nil {
		return nil, err
	}
	if check != nil {
		f.lint = *check
	}
	lint := f.Linter(func(w Warning) { f.Warnings = append(f.Warnings, w) })
	warnEmptyContinuations(res.Warnings, lint)
	f.Stages, f.MetaArgs, err = instructions.Parse(res.AST, lint)
	if err != nil {
		e := f.Wrap(err)
		e.Warnings = f.Warnings
		return nil, e
	}
	if len(f.Stages) == 0 {
		return nil, &Error{File: name, Source: src, Msg: "dockerfile contains no stages to build", Hint: "begin one with FROM"}
	}
	lintStageNames(f.Stages, lint)
	lintCasing(f.Stages, lint)
	return f, nil
}

// readDirectives finds the parser directives and refuses a frontend that is not
// the Dockerfile's own.
func (f *File) readDirectives() error {
	src := bytes.TrimPrefix(f.Source, []byte("\xef\xbb\xbf"))
	first := 1
	if bytes.HasPrefix(src, []byte("#!")) {
		_, src, _ = bytes.Cut(src, []byte("\n"))
		first = 2
	}
	var p bk.DirectiveParser
	found, _ := p.ParseAll(src) // a repeated directive is reported by bk.Parse
	for _, d := range found {
		line := d.Location[0].Start.Line + first - 1
		f.Directives = append(f.Directives, Directive{Name: d.Name, Value: d.Value, Line: line})
	}
	if syntax, _, loc, ok := bk.DetectSyntax(f.Source); ok && !OwnSyntax(syntax) {
		line, _ := Lines(loc)
		return f.Unsupported(line, line, "frontend "+syntax,
			"this builder has the Dockerfile frontend (docker/dockerfile) built in and runs no other")
	}
	for _, d := range f.Directives {
		if d.Name != "check" {
			continue
		}
		cfg, err := linter.ParseLintOptions(d.Value)
		if err != nil {
			return &Error{File: f.Name, Source: f.Source, Start: d.Line, End: d.Line, Msg: err.Error(), Err: err}
		}
		f.lint = *cfg
	}
	return nil
}

// OwnSyntax reports whether a "# syntax=" reference names the Dockerfile
// frontend, of which this package is an implementation: Docker's image, or a mirror
// or copy of it, whose repository is called like it in whatever registry and folder.
func OwnSyntax(ref string) bool {
	ref, _, _ = strings.Cut(ref, "@")
	repository := ref[strings.LastIndexByte(ref, '/')+1:]
	repository, _, _ = strings.Cut(repository, ":")
	switch repository {
	case "dockerfile", "dockerfile-upstream":
		return true
	}
	return ref == "dockerfile.v0"
}

// ErrUnsupported marks an *Error for something that a Dockerfile may say and
// this builder does not do.
var ErrUnsupported = errors.New("not supported")

// Unsupported returns the error that refuses what at the given lines.
func (f *File) Unsupported(start, end int, what, hint string) *Error {
	return &Error{
		File: f.Name, Source: f.Source, Start: start, End: end,
		Msg: what + " is not supported", Hint: hint, Err: ErrUnsupported,
	}
}
