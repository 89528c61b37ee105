package parser

import (
	"fmt"
	"strings"
)

// Warning is a lint finding or another remark about a Dockerfile.
type Warning struct {
	Rule        string // "StageNameCasing", …
	Description string
	URL         string
	Message     string
	File        string
	Start, End  int // lines, 1-based
}

// Error is a user's mistake in a Dockerfile, ignore file or flag that refers to
// one. Its text carries file and line; Excerpt shows the lines.
type Error struct {
	File       string
	Start, End int // lines, 1-based; 0: no position
	Source     []byte
	Msg        string
	// Hint says what to do ("did you mean …?"); may be empty.
	Hint string
	Err  error // cause, may be nil
	// Warnings were found before the mistake.
	Warnings []Warning
}

// Error implements error: "Dockerfile:3: unknown instruction: FORM".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Start > 0 {
			fmt.Fprintf(&b, ":%d", e.Start)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Excerpt returns the lines around the mistake, each with its number and the
// wrong ones marked, "" if there is no position.
func (e *Error) Excerpt() string { return Excerpt(e.Source, e.Start, e.End) }

// Excerpt shows lines start to end of src with two lines around them, in the
// form that BuildKit's users know:
//
//	2 |     FROM alpine
//	3 | >>> RUN false
//	4 |     CMD ["sh"]
func Excerpt(src []byte, start, end int) string {
	if start <= 0 || len(src) == 0 {
		return ""
	}
	if end < start {
		end = start
	}
	lines := strings.Split(strings.TrimSuffix(string(src), "\n"), "\n")
	var b strings.Builder
	for n := max(1, start-2); n <= min(len(lines), end+2); n++ {
		mark := "    "
		if n >= start && n <= end {
			mark = ">>> "
		}
		fmt.Fprintf(&b, "%4d | %s%s\n", n, mark, strings.TrimRight(lines[n-1], "\r"))
	}
	return b.String()
}
