package shared

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"

	units "github.com/docker/go-units"

	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/parser/mistake"
)

// The values of Export.Mode.
const (
	ModeMin = "min" // the steps of the result only
	ModeMax = "max" // all steps
)

// Attrs are the options of a place, KEY=VALUE. What reads one takes it; one that nothing
// took is a mistake.
type Attrs struct {
	text   string // as they were written
	values map[string]string
	taken  map[string]bool
}

// ParseAttrs reads what --cache-from and --cache-to take: "type=KIND,KEY=VALUE,…" as a line
// of CSV, or the name of an image, which is type=registry. The kind is the option "type".
// Errors are mistakes.
func ParseAttrs(text string) (*Attrs, error) {
	a := &Attrs{text: text, values: map[string]string{}, taken: map[string]bool{}}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, mistake.New("%q: %w", text, err)
	}
	if !strings.Contains(text, "=") && len(fields) == 1 {
		a.values["type"], a.values["ref"] = "registry", fields[0]
		return a, nil
	}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, mistake.New("%q: %q is not KEY=VALUE", text, f)
		}
		key = strings.ToLower(strings.TrimSpace(key))
		if key == "mounts" && a.values[key] != "" {
			value = a.values[key] + ";" + value
		}
		a.values[key] = value
	}
	if a.values["type"] == "" {
		return nil, mistake.New("%q: type is missing", text)
	}
	return a, nil
}

// Is reports whether the kind is this one.
func (a *Attrs) Is(kind string) bool { return a.values["type"] == kind && a.Kind() == kind }

// Kind is the value of "type".
func (a *Attrs) Kind() string { return a.Take("type") }

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
	if v == "" {
		return "", mistake.New("type=%s: %s is missing", a.values["type"], key)
	}
	return v, nil
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
	var left []string
	for k := range a.values {
		if !a.taken[k] {
			left = append(left, k)
		}
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return mistake.Unsupported(fmt.Sprintf("type=%s: %s", a.values["type"], left[0]), "docs/COMPATIBILITY.md lists the options of caches")
}

// From says what is imported from a place.
type From struct {
	// Scopes are read in their order; none is the place's own.
	Scopes []string
	// Strict makes it an error that the place cannot be read.
	Strict bool
	// Mounts are the cache mounts that are restored.
	Mounts Select
	// Verify are the keys of those whose entries are believed; none: of anybody.
	Verify sign.Keys
}

// To says how a place is exported to.
type To struct {
	Scope string
	// Mode is ModeMin or ModeMax.
	Mode string
	// Strict makes it an error that nothing can be written.
	Strict bool
	// MaxSize is how many bytes the blobs of the scope may have; 0: any number.
	MaxSize int64
	// Mounts are the cache mounts that are exported.
	Mounts Select
	// Reset begins with an empty index.
	Reset bool
	Form  Compression
	// Signer signs the entries; nil: nobody does.
	Signer *sign.Signer
}

// Compression is how layers are compressed that have no compressed form yet.
type Compression struct {
	Type  string // "" is the usual one
	Level *int
	Force bool // also layers that have a form already
}

// TakeFrom takes the options that all places have for importing. Getenv finds keys that are
// variables. Errors are mistakes.
func TakeFrom(a *Attrs, getenv func(string) string) (From, error) {
	f := From{Scopes: append(a.List("scope"), a.List("parents")...), Mounts: takeMounts(a, true)}
	lenient, err := a.Bool("ignore-error", true)
	if err != nil {
		return f, err
	}
	f.Strict = !lenient
	f.Verify, err = sign.ReadKeys(a.List("verify-key"), getenv)
	if err == nil && a.Has("verify-key") && len(f.Verify) == 0 {
		err = mistake.New("type=%s: verify-key is empty", a.values["type"]) // a variable that is not set
	}
	return f, err
}

// TakeTo takes the options that all places have for exporting. Getenv finds keys that are
// variables. Errors are mistakes.
func TakeTo(a *Attrs, getenv func(string) string) (To, error) {
	t := To{Scope: a.Take("scope"), Mode: a.Take("mode"), Mounts: takeMounts(a, false)}
	if t.Mode == "" {
		t.Mode = ModeMin
	}
	if t.Mode != ModeMin && t.Mode != ModeMax {
		return t, mistake.New("type=%s: mode=%s: want min or max", a.values["type"], t.Mode)
	}
	lenient, err := a.Bool("ignore-error", true)
	if err != nil {
		return t, err
	}
	t.Strict = !lenient
	if v := a.Take("max-size"); v != "" {
		if t.MaxSize, err = units.RAMInBytes(v); err != nil || t.MaxSize <= 0 {
			return t, mistake.New("type=%s: max-size=%s is not a size, such as 20g", a.values["type"], v)
		}
	}
	if t.Reset, err = a.Bool("reset", false); err != nil {
		return t, err
	}
	if a.Has("sign-key") {
		if t.Signer, err = sign.NewSigner(a.Take("sign-key"), getenv); err != nil {
			return t, err
		}
	}
	t.Form.Type = a.Take("compression")
	if a.Has("compression-level") {
		n, err := a.Int("compression-level", 0, 0)
		if err != nil {
			return t, err
		}
		t.Form.Level = &n
	}
	t.Form.Force, err = a.Bool("force-compression", false)
	return t, err
}
