package attrs

import (
	"maps"
	"regexp"
	"strings"
	"sync"
)

var separator = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\n|;\s*type=`) })

// Split divides places that stand behind one another: in lines of their own, or with a
// semicolon before "type=", since lists of values have semicolons too.
func Split(text string) []string {
	var out []string
	add := func(place string) {
		if place = strings.TrimSpace(place); place != "" {
			out = append(out, place)
		}
	}
	rest := text
	for {
		at := separator().FindStringIndex(rest)
		if at == nil {
			add(rest)
			return out
		}
		add(rest[:at[0]])
		rest = rest[at[0]+1:]
	}
}

// Options that only one direction has, and what a list means where one is written.
var (
	fromOnly = []string{"src", "parents", "digest", "verify-key"}
	toOnly   = []string{"dest", "mode", "max-size", "reset", "compression", "compression-level", "force-compression", "sign-key"}
)

// For returns the options of a place that is both imported from and exported to, as they
// are for one of the two: those of the other are left out. A folder is named once, as src
// or dest; of several scopes the first is written. It is nil if the place has no such
// direction.
func (a *Attrs) For(to bool) *Attrs {
	b := &Attrs{origin: a.origin, values: maps.Clone(a.values), taken: map[string]bool{}}
	if a.Is("inline") && !to {
		return nil
	}
	here, there, other := "src", "dest", toOnly
	if to {
		here, there, other = there, here, fromOnly
		b.values["scope"], _, _ = strings.Cut(a.values["scope"], ";")
		if b.values["scope"] == "" {
			delete(b.values, "scope")
		}
	}
	if v, ok := a.values[there]; ok && a.values[here] == "" && a.Is("local") {
		b.values[here] = v
	}
	for _, key := range other {
		delete(b.values, key)
	}
	return b
}

// SetOrigin says for messages where the options were written.
func (a *Attrs) SetOrigin(name string) { a.origin = name }

// Origin is where the options were written; otherwise where nothing is known of that.
func (a *Attrs) Origin(otherwise string) string {
	if a.origin != "" {
		return a.origin
	}
	return otherwise
}
