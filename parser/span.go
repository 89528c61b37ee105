package parser

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Span is a part of a file. Lines and columns begin at 1, columns count characters,
// and the last one is in it. The zero Span is nowhere.
type Span struct {
	Line, Col       int
	EndLine, EndCol int
}

// String is how messages name a span: "2:5-10", or "2:1-4:12" over several lines.
func (s Span) String() string {
	switch {
	case s.Line == 0:
		return ""
	case s.EndLine != s.Line:
		return fmt.Sprintf("%d:%d-%d:%d", s.Line, s.Col, s.EndLine, s.EndCol)
	case s.EndCol > s.Col:
		return fmt.Sprintf("%d:%d-%d", s.Line, s.Col, s.EndCol)
	}
	return fmt.Sprintf("%d:%d", s.Line, s.Col)
}

// FindSpan returns where the first of the parts that lines start to end of src have
// as a word of its own is.
func FindSpan(src []byte, start, end int, parts ...string) (Span, bool) {
	lines := linesOf(src, start, end)
	for _, part := range parts {
		if part == "" || strings.Contains(part, "\n") {
			continue
		}
		for i, line := range lines {
			if at := wordIndex(line, part); at >= 0 {
				col := 1 + utf8.RuneCountInString(line[:at])
				return Span{start + i, col, start + i, col + utf8.RuneCountInString(part) - 1}, true
			}
		}
	}
	return Span{}, false
}

// WholeSpan is what lines start to end of src have, without the blanks around it.
func WholeSpan(src []byte, start, end int) Span {
	lines := linesOf(src, start, end)
	if len(lines) == 0 {
		return Span{}
	}
	first, last := lines[0], strings.TrimRight(lines[len(lines)-1], " \t\r")
	indent := len(first) - len(strings.TrimLeft(first, " \t"))
	return Span{start, indent + 1, start + len(lines) - 1, max(1, utf8.RuneCountInString(last))}
}

func linesOf(src []byte, start, end int) []string {
	if start <= 0 {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(src), "\n"), "\n")
	if start > len(lines) {
		return nil
	}
	return lines[start-1 : min(len(lines), max(start, end))]
}

// wordIndex is the index of part in line where it does not begin or end inside a
// longer word, -1 if there is none.
func wordIndex(line, part string) int {
	for from := 0; ; {
		i := strings.Index(line[from:], part)
		if i < 0 {
			return -1
		}
		i += from
		end := i + len(part)
		if !(i > 0 && inWord(line[i-1]) && inWord(part[0])) &&
			!(end < len(line) && inWord(line[end]) && inWord(part[len(part)-1])) {
			return i
		}
		from = i + 1
	}
}

func inWord(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == '/' || c >= utf8.RuneSelf ||
		'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// quotedPart finds what a message quotes, and flags. It is compiled when the first
// error is shown: the program also starts once for every RUN.
var quotedPart = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'[^']*'|`[^`]*`|\\([^()]*\\)|--[a-z][a-z-]*(?:=[^\\s:,]+)?")
})

// NamedParts are the parts of a Dockerfile that a message may speak of, the likely
// ones first.
func NamedParts(msg string) []string {
	var parts []string
	for _, q := range quotedPart().FindAllString(msg, -1) {
		switch q[0] {
		case '"':
			if s, err := strconv.Unquote(q); err == nil {
				parts = append(parts, s)
			}
		case '-':
			name, _, _ := strings.Cut(q, "=")
			parts = append(parts, q, name)
		default:
			parts = append(parts, q[1:len(q)-1])
		}
	}
	words := strings.Fields(msg)
	for i, w := range words {
		named := strings.ContainsAny(strings.TrimRight(w, ":,."), ":/=$@.0123456789")
		object := i == 0 && strings.HasSuffix(w, ":") || i == len(words)-1 && i > 0 && strings.HasSuffix(words[i-1], ":")
		if w = strings.Trim(w, ":,()"); named || object {
			parts = append(parts, w)
		}
	}
	for _, flag := range []string{"checksum", "keep-git-dir"} {
		if strings.Contains(msg, flag) {
			parts = append(parts, "--"+flag)
		}
	}
	return parts
}
