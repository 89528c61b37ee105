package progress

import (
	"bytes"
	"strings"
)

// maxLine bounds what is kept of a line that does not end.
const maxLine = 16 << 10

// splitter cuts output into lines. Of a line that was overwritten with carriage
// returns only the last state is kept, as a terminal would show it.
type splitter struct{ partial []byte }

// write takes output in and returns the lines that it completes.
func (s *splitter) write(p []byte) []string {
	var lines []string
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			s.partial = append(s.partial, p...)
			break
		}
		s.partial = append(s.partial, p[:n]...)
		lines = append(lines, lastState(s.partial))
		s.partial = s.partial[:0]
		p = p[n+1:]
	}
	if len(s.partial) > maxLine {
		s.partial = append(s.partial[:0], s.last()...)
	}
	if len(s.partial) > maxLine {
		lines = append(lines, s.rest()...)
	}
	return lines
}

// last is the state of a line that has not ended; nil if there is none.
func (s *splitter) last() []byte {
	line := bytes.TrimRight(s.partial, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		return s.partial[i+1:]
	}
	return s.partial
}

// rest returns what is left without a final newline.
func (s *splitter) rest() []string {
	if len(s.partial) == 0 {
		return nil
	}
	line := lastState(s.partial)
	s.partial = s.partial[:0]
	return []string{line}
}

func lastState(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	return string(line)
}

// Printable is a text of others, such as one from a shared cache or a server, in one line
// that changes nothing else of the terminal.
func Printable(s string) string {
	return printable(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

// printable removes escape sequences and control characters, so that the output
// of a step cannot move the cursor of the live picture, and expands tabs.
func printable(s string) string {
	var b strings.Builder
	col := 0
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i += escapeLen(s[i:])
			continue
		}
		r, n := decodeRune(s[i:])
		i += n
		switch {
		case r == '\t':
			for ok := true; ok; ok = col%8 != 0 {
				b.WriteByte(' ')
				col++
			}
		case r < 0x20 || r >= 0x7f && r < 0xa0:
		default:
			b.WriteRune(r)
			col += runeWidth(r)
		}
	}
	return b.String()
}

// escapeLen is the length of the escape sequence at the start of s (ECMA-48:
// CSI, OSC and two-character forms).
func escapeLen(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return len(s)
	case '(', ')':
		return min(3, len(s))
	}
	return 2
}
