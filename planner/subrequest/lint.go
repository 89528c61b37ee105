// Package subrequest makes the answers to what may be asked about a Dockerfile instead of
// building it, in the forms of BuildKit's subrequests (lint, outline, targets) and as the
// tables that buildx prints.
package subrequest

import (
	"encoding/json"
	"errors"
	"io"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

// Location is a position in the form of BuildKit's subrequests.
type Location struct {
	Ranges []Range `json:"ranges,omitempty"`
}

// Range is a line, as BuildKit has them.
type Range struct {
	Start Position `json:"start"`
	End   Position `json:"end"`
}

// Position is where a range begins or ends.
type Position struct {
	Line int `json:"line,omitempty"`
}

// lines makes one range for each line, as BuildKit does.
func lines(start, end int) *Location {
	if start == 0 {
		return nil
	}
	l := &Location{}
	for n := start; n <= max(start, end); n++ {
		l.Ranges = append(l.Ranges, Range{Position{n}, Position{n}})
	}
	return l
}

func at(l dag.Location) *Location { return lines(l.Start, l.End) }

// Warning is one finding.
type Warning struct {
	RuleName    string    `json:"ruleName"`
	Description string    `json:"description,omitempty"`
	URL         string    `json:"url,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Location    *Location `json:"location,omitempty"`
}

// Source is a Dockerfile.
type Source struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Data     []byte `json:"data"`
}

// BuildError is why the Dockerfile cannot be built.
type BuildError struct {
	Message  string    `json:"message"`
	Location *Location `json:"location,omitempty"`
}

// Lint is the answer to lint.
type Lint struct {
	Warnings []Warning   `json:"warnings"`
	Sources  []Source    `json:"sources"`
	Error    *BuildError `json:"buildError,omitempty"`
}

// WriteJSON writes an answer as buildx does.
func WriteJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// NewLint is the answer to lint: what was found in a Dockerfile, and the error that ended
// the planning, if one did.
func NewLint(found []parser.Warning, name string, src []byte, err error) Lint {
	res := Lint{
		Warnings: []Warning{},
		Sources:  []Source{{Filename: name, Language: "Dockerfile", Data: src}},
	}
	for _, f := range found {
		res.Warnings = append(res.Warnings, Warning{
			RuleName: f.Rule, Description: f.Description, URL: f.URL, Detail: f.Message, Location: lines(f.Start, f.End),
		})
	}
	if err != nil {
		res.Error = &BuildError{Message: err.Error()}
		var perr *parser.Error
		if errors.As(err, &perr) {
			res.Error.Location = lines(perr.Start, perr.End)
		}
	}
	return res
}
