package parser

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
)

// hintSuffix is compiled when the first error is made: the program also starts
// once for every RUN.
var hintSuffix = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^(.*\S)\s*\((did you mean .*\?)\)$`)
})

// Wrap makes an error of BuildKit's packages an *Error: it takes the lines from
// the location that they attach and the hint from the text. An *Error is
// returned as it is.
func (f *File) Wrap(err error) *Error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	e := &Error{File: f.Name, Source: f.Source, Msg: err.Error(), Err: err}
	var loc *bk.LocationError
	if errors.As(err, &loc) {
		if inner := loc.Unwrap(); inner != nil {
			// Not err's own text, which repeats the line.
			e.Msg = inner.Error()
		}
		if len(loc.Locations) > 0 {
			e.Start, e.End = Lines(loc.Locations[0])
		}
	}
	if countedFromZero(e.Msg) {
		e.Start, e.End = e.Start+1, e.Start+1
	}
	if m := hintSuffix().FindStringSubmatch(e.Msg); m != nil {
		e.Msg, e.Hint = m[1], m[2]
	}
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) {
		e.Hint = nearestInstruction(unknown.Instruction)
	}
	// The end of the text is reported as a character that stands for no character.
	e.Msg = strings.Replace(e.Msg, "unsupported modifier (\uFFFD) in substitution", "syntax error: missing '}'", 1)
	if e.Hint == "" {
		e.Hint = valueHint(e.Msg)
	}
	if e.Hint == "" && e.Msg == "no build stage in current context" {
		e.Hint = "only ARG may stand before the first FROM"
	}
	return e
}

// nearestInstruction is the hint for an unknown instruction: BuildKit's own
// depends on the order of a map where several are equally near.
func nearestInstruction(name string) string {
	var all []string
	for known := range command.Commands {
		all = append(all, strings.ToUpper(known))
	}
	slices.Sort(all)
	if near, ok := suggest.Search(name, all, false); ok {
		return "did you mean " + near + "?"
	}
	return ""
}

// valueHint names the values that a flag takes, where BuildKit names the wrong one
// only.
func valueHint(msg string) string {
	for _, v := range []struct{ prefix, suffix, hint string }{
		{"invalid network mode ", "", "use default, none or host"},
		{"security ", " is not valid", "use sandbox or insecure"},
		{"SHELL requires the arguments", "", `write SHELL ["/bin/sh", "-c"]`},
	} {
		if strings.HasPrefix(msg, v.prefix) && strings.HasSuffix(msg, v.suffix) {
			return v.hint
		}
	}
	return ""
}

// WrapAt is Wrap for an error that may lack a location: then it is at the given one.
func (f *File) WrapAt(err error, location []bk.Range) *Error {
	return f.Wrap(bk.WithLocation(err, location))
}

// countedFromZero reports whether BuildKit gives the line before the wrong one.
func countedFromZero(msg string) bool {
	return strings.HasPrefix(msg, "only one ") && strings.HasSuffix(msg, " parser directive can be used") ||
		strings.HasPrefix(msg, "invalid escape token ") ||
		strings.HasPrefix(msg, "dockerfile line greater than max allowed size")
}
