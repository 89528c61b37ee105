package parser

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"layered.build/builder/parser/mistake"
)

// Reuse says whether a step's earlier results may be used. The zero value is all of them.
type Reuse struct {
	// Never: the step always runs.
	Never bool
	// MaxAge is how old a result may be; 0: as old as it is.
	MaxAge time.Duration
}

// Within is what both allow.
func (r Reuse) Within(o Reuse) Reuse {
	r.Never = r.Never || o.Never
	if r.MaxAge == 0 || o.MaxAge != 0 && o.MaxAge < r.MaxAge {
		r.MaxAge = o.MaxAge
	}
	return r
}

// The comments "# builder: no-cache" and "# builder: ttl=1d" above an instruction.
const (
	noCacheComment = "no-cache"
	ttlComment     = "ttl"
)

// CommentedReuse reads what the comments above an instruction say of it. Those of a File
// have been checked.
func CommentedReuse(comments []string) Reuse {
	var r Reuse
	for _, c := range comments {
		name, value, ok := ownComment(c)
		if !ok {
			continue
		}
		switch name {
		case noCacheComment:
			r.Never = true
		case ttlComment:
			if d, err := ParseAge(value); err == nil {
				r = r.Within(Reuse{Never: d == 0, MaxAge: d})
			}
		}
	}
	return r
}

var ownCommentForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^builder:\s*([a-z][a-z_-]*)\s*(?:=\s*(.*))?$`)
})

// ownComment reads "builder: name" and "builder: name=value", a comment without its #.
func ownComment(c string) (name, value string, ok bool) {
	if !strings.HasPrefix(c, "builder:") {
		return "", "", false
	}
	m := ownCommentForm().FindStringSubmatch(c)
	if m == nil {
		return "", "", false
	}
	return m[1], strings.TrimSpace(m[2]), true
}

// checkComments refuses comments of this builder's that mean nothing where they stand.
// Others, as on a stage that is called builder, are none.
func (f *File) checkComments() error {
	before := 0 // the last line of the instruction before
	for _, node := range f.ast.Children {
		for _, c := range node.PrevComment {
			if msg, hint := commentMistake(c, strings.ToUpper(node.Value)); msg != "" {
				e := &Error{File: f.Name, Source: f.Source, Msg: msg, Hint: hint, Part: c}
				e.Start = f.commentLine(before, node, c)
				e.End = e.Start
				return e
			}
		}
		before = node.EndLine
	}
	return nil
}

// commentLine finds the line of a comment above an instruction.
func (f *File) commentLine(after int, node *bk.Node, comment string) int {
	lines := strings.Split(string(f.Source), "\n")
	for n := after; n < min(node.StartLine, len(lines)); n++ {
		line, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(lines[n], "\xef\xbb\xbf")), "#")
		if ok && strings.TrimSpace(line) == comment {
			return n + 1
		}
	}
	return node.StartLine
}

// commentMistake says what is wrong with a comment above an instruction, "" if nothing is.
func commentMistake(comment, keyword string) (msg, hint string) {
	name, value, ok := ownComment(comment)
	if !ok {
		return "", ""
	}
	switch name {
	case noCacheComment:
		if value != "" {
			return fmt.Sprintf("no-cache=%s: no-cache has no value", value), "write # builder: no-cache"
		}
	case ttlComment:
		if _, err := ParseAge(value); err != nil {
			return fmt.Sprintf("ttl=%s: %v", value, err), ageHint
		}
	default:
		if near, ok := nearComment(name); ok {
			return fmt.Sprintf("# builder: %s is not known", name), fmt.Sprintf("did you mean %s?", near)
		}
		return "", ""
	}
	if !slices.Contains([]string{"FROM", "RUN", "COPY", "ADD"}, keyword) {
		return fmt.Sprintf("%s means nothing above %s", name, keyword), "it may stand above RUN, COPY and ADD, and above FROM for all of a stage"
	}
	return "", ""
}

// nearComment is what may have been meant by a name that differs in a letter.
func nearComment(name string) (string, bool) {
	for _, known := range []string{noCacheComment, ttlComment, "secret-scan"} {
		if name != known && mistake.Distance(name, known) == 1 {
			return known, true
		}
	}
	return "", false
}

const ageHint = "write 90m, 12h, 1d, 2w or 1d12h; 0 is no-cache"

// ParseAge reads a duration as Go writes it (90m, 1h30m), also with days (d, 24 hours) and
// weeks (w), or 0.
func ParseAge(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	var sum time.Duration
	rest := s
	for rest != "" {
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if n < 1 {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		number := rest[:n]
		unit := rest[n:]
		if end := strings.IndexAny(unit, "0123456789."); end >= 0 {
			unit = unit[:end]
		}
		rest = rest[n+len(unit):]
		d, err := parseUnit(number, unit)
		if err != nil || sum > math.MaxInt64-d {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		sum += d
	}
	if s == "" || sum == 0 && strings.ContainsAny(s, "123456789") {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	return sum, nil
}

func parseUnit(number, unit string) (time.Duration, error) {
	days := map[string]float64{"d": 1, "w": 7}[unit]
	if days == 0 {
		return time.ParseDuration(number + unit)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, err
	}
	d := n * days * float64(24*time.Hour)
	if d >= math.MaxInt64 {
		return 0, strconv.ErrRange
	}
	return time.Duration(d), nil
}
