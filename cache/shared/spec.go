package shared

import "layered.build/builder/cache/shared/attrs"

// The values of To.Mode.
const (
	ModeMin = attrs.ModeMin // the steps of the result only
	ModeMax = attrs.ModeMax // all steps
)

// Attrs are the options of a place.
type Attrs = attrs.Attrs

// ParseAttrs is attrs.Parse.
func ParseAttrs(text string) (*Attrs, error) { return attrs.Parse(text) }

// SplitPlaces is attrs.Split.
func SplitPlaces(text string) []string { return attrs.Split(text) }

// From says what is imported from a place.
type From = attrs.From

// To says how a place is exported to.
type To = attrs.To

// Compression is how layers are compressed that have no compressed form yet.
type Compression = attrs.Compression

// Select says which cache mounts are carried, by their ids. The zero value is none.
type Select = attrs.Select

// TakeFrom is attrs.TakeFrom.
func TakeFrom(a *Attrs, getenv func(string) string) (From, error) { return attrs.TakeFrom(a, getenv) }

// TakeTo is attrs.TakeTo.
func TakeTo(a *Attrs, getenv func(string) string) (To, error) { return attrs.TakeTo(a, getenv) }
