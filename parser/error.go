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
	// Part is the wrong part of the lines; where it is "", that is told from Msg.
	Part string
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

// Span is the wrong part of the file as far as it is known: else the whole
// instruction, and nothing if there is no position.
func (e *Error) Span() Span {
	s, ok := e.part()
	if !ok {
		return WholeSpan(e.Source, e.Start, e.End)
	}
	return s
}

func (e *Error) part() (Span, bool) {
	if e.Part != "" {
		return FindSpan(e.Source, e.Start, e.End, e.Part)
	}
	return FindSpan(e.Source, e.Start, e.End, NamedParts(e.Msg)...)
}

// Excerpt returns the lines around the mistake, each with its number and the
// wrong ones and the wrong part marked, "" if there is no position.
func (e *Error) Excerpt() string {
	s, _ := e.part()
	return MarkedExcerpt(e.Source, e.Start, e.End, s)
}

// Excerpt shows lines start to end of src with two lines around them, in the
// form that BuildKit's users know:
//
//	2 |     FROM alpine
//	3 | >>> RUN false
//	4 |     CMD ["sh"]
func Excerpt(src []byte, start, end int) string { return MarkedExcerpt(src, start, end, Span{}) }

// MarkedExcerpt is Excerpt with a line below that of part:
//
//	3 | >>> RUN --mont=type=bind true
//	  |         ^^^^^^
func MarkedExcerpt(src []byte, start, end int, part Span) string {
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
		line := strings.TrimRight(lines[n-1], "\r")
		fmt.Fprintf(&b, "%4d | %s%s\n", n, mark, line)
		if n == part.Line {
			fmt.Fprintf(&b, "     |     %s\n", underline(line, part))
		}
	}
	return b.String()
}

// underline marks the columns of part, which are one line's. Tabs before them stay
// tabs, so that the marks are below what they mark.
func underline(line string, part Span) string {
	var b strings.Builder
	col := 1
	for _, r := range line {
		if col++; col > part.Col {
			break
		}
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String() + strings.Repeat("^", part.EndCol-part.Col+1)
}
