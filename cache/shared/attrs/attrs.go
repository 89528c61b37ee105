// Package attrs reads the options of shared caches as users write them.
package attrs

import (
	"encoding/csv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"layered.build/builder/parser/mistake"
)

// Attrs are the options of a place, KEY=VALUE. What reads one takes it; one that nothing
// took is a mistake.
type Attrs struct {
	values map[string]string
	taken  map[string]bool
	origin string // where they were written; "": nothing is known of that
}

// repeated are the options that may be there several times.
var repeated = []string{"mounts", "verify-key", "header"}

// Parse reads what --cache-from and --cache-to take: "type=KIND,KEY=VALUE,…" as a line
// of CSV, or the name of an image, which is type=registry. The kind is the option "type".
// Errors are mistakes. They repeat nothing but names of options: values may be credentials.
func Parse(text string) (*Attrs, error) {
	a := &Attrs{values: map[string]string{}, taken: map[string]bool{}}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, mistake.New("not options as in type=KIND,KEY=VALUE: %w", err)
	}
	if !strings.Contains(text, "=") && len(fields) == 1 {
		a.values["type"], a.values["ref"] = "registry", fields[0]
		return a, nil
	}
	for n, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, mistake.New("option %d of %d is not KEY=VALUE", n+1, len(fields)).
				WithHint(`an option whose value has commas stands in quotation marks: type=KIND,"KEY=A,B"`)
		}
		key = strings.ToLower(strings.TrimSpace(key))
		if slices.Contains(repeated, key) && a.values[key] != "" {
			value = a.values[key] + ";" + value
		}
		a.values[key] = value
	}
	if a.values["type"] == "" {
		return nil, mistake.New("type is missing").WithHint("want type=KIND,KEY=VALUE,…, or the name of an image")
	}
	return a, nil
}

// Is reports whether the kind is this one.
func (a *Attrs) Is(kind string) bool { return a.values["type"] == kind && a.Kind() == kind }

// Kind is the value of "type".
func (a *Attrs) Kind() string { return a.Take("type") }

// Type is Kind without taking it.
func (a *Attrs) Type() string { return a.values["type"] }

// Take returns the value of a key, "" if it is not there.
func (a *Attrs) Take(key string) string {
	a.taken[key] = true
	return a.values[key]
}

// Has reports whether a key is there.
func (a *Attrs) Has(key string) bool { _, ok := a.values[key]; return ok }

// Need is Take of a key that must be there.
func (a *Attrs) Need(key string) (string, error) {
	v := a.Take(key)
	if v != "" {
		return v, nil
	}
	err := mistake.New("type=%s: %s is missing", a.values["type"], key)
	if near, ok := mistake.Nearest(key, a.left()); ok {
		return "", err.WithHint("%s is no option: did you mean %s?", near, key)
	}
	return "", err
}

// Bool is Take of true or false; otherwise is what a missing key means.
func (a *Attrs) Bool(key string, otherwise bool) (bool, error) {
	v := a.Take(key)
	if v == "" {
		return otherwise, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, mistake.New("type=%s: %s=%s is neither true nor false", a.values["type"], key, v)
	}
	return b, nil
}

// Int is Take of a whole number that is at least least.
func (a *Attrs) Int(key string, otherwise, least int) (int, error) {
	v := a.Take(key)
	if v == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least {
		return 0, mistake.New("type=%s: %s=%s is not a number from %d on", a.values["type"], key, v, least)
	}
	return n, nil
}

// List is Take of names that are separated by semicolons.
func (a *Attrs) List(key string) []string {
	names := strings.Split(a.Take(key), ";")
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// Left refuses what nothing has taken.
func (a *Attrs) Left() error {
	left := a.left()
	if len(left) == 0 {
		return nil
	}
	err := mistake.New("type=%s: %s is no option of it here", a.values["type"], left[0])
	if near, ok := mistake.Nearest(left[0], slices.Collect(maps.Keys(a.taken))); ok {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("docs/COMPATIBILITY.md lists the options of --cache-from and --cache-to")
}

// left are the keys that nothing has taken.
func (a *Attrs) left() []string {
	var left []string
	for k := range a.values {
		if !a.taken[k] && k != "type" {
			left = append(left, k)
		}
	}
	slices.Sort(left)
	return left
}
