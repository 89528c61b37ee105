package attrs

import (
	"slices"

	units "github.com/docker/go-units"

	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/parser/mistake"
)

// The values of To.Mode.
const (
	ModeMin = "min" // the steps of the result only
	ModeMax = "max" // all steps
)

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
	// Mounts are the cache mounts that are exported, Forget those that are removed.
	Mounts, Forget Select
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
		err = mistake.New("type=%s: verify-key is empty", a.Type()) // a variable that is not set
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
		return t, mistake.New("type=%s: mode=%s: want min or max", a.Type(), t.Mode)
	}
	lenient, err := a.Bool("ignore-error", true)
	if err != nil {
		return t, err
	}
	t.Strict = !lenient
	if v := a.Take("max-size"); v != "" {
		if t.MaxSize, err = units.RAMInBytes(v); err != nil || t.MaxSize <= 0 {
			return t, mistake.New("type=%s: max-size=%s is not a size, such as 20g", a.Type(), v)
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

// Select says which cache mounts are carried, by their ids. The zero value is none.
type Select struct {
	All bool
	IDs []string
}

// Has reports whether a mount is carried.
func (s Select) Has(id string) bool { return s.All || slices.Contains(s.IDs, id) }

// None reports whether no mount is.
func (s Select) None() bool { return !s.All && len(s.IDs) == 0 }

// takeMounts takes the option that says which mounts are carried: true, false, or ids.
func takeMounts(a *Attrs, all bool) Select {
	switch ids := a.List("mounts"); {
	case !a.Has("mounts"):
		return Select{All: all}
	case len(ids) == 1 && ids[0] == "true":
		return Select{All: true}
	case len(ids) == 1 && ids[0] == "false":
		return Select{}
	default:
		return Select{IDs: ids}
	}
}
