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
	"unicode"

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

// The settings "# builder: secret-scan=warn" and "# builder: mount-key=FILE" of a whole file.
const (
	scanSetting = "secret-scan"
	keySetting  = "mount-key"
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
// Others, as on a stage that is called builder, are none. Those that are indented, or have an
// empty comment below them, become comments of the instruction as others are.
func (f *File) checkComments() error {
	lines := strings.Split(strings.TrimPrefix(string(f.Source), "\xef\xbb\xbf"), "\n")
	before := 0 // the last line of the instruction before
	for _, node := range f.ast.Children {
		for n := before; n < min(node.StartLine, len(lines)); n++ {
			c, ok := strings.CutPrefix(strings.TrimSpace(lines[n]), "#")
			if !ok {
				continue
			}
			c = strings.TrimSpace(c)
			if msg, hint := commentMistake(c, strings.ToUpper(node.Value), before == 0); msg != "" {
				e := &Error{File: f.Name, Source: f.Source, Msg: msg, Hint: hint, Part: c}
				e.Start, e.End = n+1, n+1
				return e
			}
			if _, _, ok := ownComment(c); ok && !slices.Contains(node.PrevComment, c) {
				node.PrevComment = append(node.PrevComment, c)
			}
		}
		before = node.EndLine
	}
	return nil
}

// commentMistake says what is wrong with a comment above an instruction, "" if nothing is.
// The first instruction may have settings above it, too.
func commentMistake(comment, keyword string, first bool) (msg, hint string) {
	name, value, ok := ownComment(comment)
	if !ok {
		return malformed(comment)
	}
	switch name {
	case noCacheComment:
		if value != "" {
			return fmt.Sprintf("no-cache=%s: no-cache has no value", value), writeNoCache
		}
	case ttlComment:
		if _, err := ParseAge(value); err != nil {
			return fmt.Sprintf("ttl=%s: %v", value, err), hintFor(name, "="+value)
		}
	case scanSetting, keySetting:
		switch {
		case value == "" || strings.ContainsFunc(value, unicode.IsSpace):
			return fmt.Sprintf("# %s is not known", comment), hintFor(name, "="+value)
		case !first:
			return name + " means nothing here", "it may stand before the first instruction"
		}
		return "", ""
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

var almostForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^builder\s*:\s*([a-z][a-z_-]*)(\s*(?:=.*)?$|[^\w-].*$)`)
})

var optionForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(?:^|[\s,;])(?:no-cache\b|ttl\s*=)`)
})

// malformed says what is wrong with a comment that is nearly one of ours: that has the name
// of one and goes on otherwise, or is written with capitals. What is said to somebody called
// Builder may begin with such a word, and sentences with one that is like it.
func malformed(comment string) (msg, hint string) {
	m := almostForm().FindStringSubmatch(comment)
	if m == nil {
		return "", ""
	}
	name, more := strings.ToLower(m[1]), strings.TrimSpace(m[2])
	alone := more == "" || more[0] == '='
	msg = fmt.Sprintf("# %s is not known", comment)
	switch near, ok := nearComment(name); {
	case slices.Contains(ownNames(), name):
		if alone || strings.HasPrefix(comment, "builder") {
			return msg, hintFor(name, more)
		}
	case ok && (alone || optionForm().MatchString(more)):
		return msg, fmt.Sprintf("did you mean %s?", near)
	}
	return "", ""
}

// hintFor says how the comment of that name is written, which had more after it.
func hintFor(name, more string) string {
	switch {
	case optionForm().MatchString(more):
		return "write one option in a comment, and each on a line of its own"
	case name == noCacheComment:
		return writeNoCache
	case name == scanSetting:
		return "write # builder: secret-scan=error, warn or off"
	case name == keySetting:
		return "write # builder: mount-key=FILE, several with commas and no spaces"
	case !strings.HasPrefix(more, "="):
		return "write # builder: ttl=1d"
	}
	if _, err := ParseAge(strings.TrimSpace(more[1:])); err == nil { // the name has capitals
		return "write # builder: ttl=" + strings.TrimSpace(more[1:])
	}
	return ageHint
}

const writeNoCache = "write # builder: no-cache"

func ownNames() []string { return []string{noCacheComment, ttlComment, scanSetting, keySetting} }

// nearComment is what may have been meant by a name that differs in a letter.
func nearComment(name string) (string, bool) {
	for _, known := range ownNames() {
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
