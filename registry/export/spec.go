package export

import (
	"encoding/csv"
	"slices"
	"strconv"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
)

// Spec is an exporter as it was asked for.
type Spec struct {
	// Kind is a kind, or "registry": an image that is pushed.
	Kind string
	// Attrs are its options, in their order.
	Attrs []Attr
	// Text is how they were written, for messages; "" is put together from the rest.
	Text string
	// Elsewhere: the sinks know where files go, so dest may be missing, and docker
	// without it is a file as well.
	Elsewhere bool
}

// Attr is one option.
type Attr struct{ Key, Value string }

// String is the text.
func (s Spec) String() string {
	if s.Text != "" {
		return s.Text
	}
	parts := []string{"type=" + s.Kind}
	for _, a := range s.Attrs {
		parts = append(parts, a.Key+"="+a.Value)
	}
	return strings.Join(parts, ",")
}

// ParseSpec reads what --output takes: "type=KIND,KEY=VALUE,…" as a line of CSV, a
// directory, or "-" for a tar on stdout. Errors are mistakes.
func ParseSpec(text string) (Spec, error) {
	if text == "-" {
		return Spec{Kind: Tar, Attrs: []Attr{{"dest", "-"}}, Text: text}, nil
	}
	if !strings.Contains(text, "=") {
		return Spec{Kind: Local, Attrs: []Attr{{"dest", text}}, Text: text}, nil
	}
	parts, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return Spec{}, mistake.New("--output %q: %w", text, err)
	}
	s := Spec{Text: text}
	for _, p := range parts {
		key, value, _ := strings.Cut(p, "=")
		if key = canonical(key); key == "type" {
			s.Kind = value
			continue
		}
		s.Attrs = append(s.Attrs, Attr{key, value})
	}
	if s.Kind == "" {
		return s, mistake.New("--output %q: type is missing", text)
	}
	return s, nil
}

// canonical is how keys are compared: those of annotations count as they are.
func canonical(key string) string {
	if key = strings.TrimSpace(key); strings.HasPrefix(key, annotationKey) {
		return key
	}
	return strings.ToLower(key)
}

// Parse makes the exporter that a spec asks for. Errors are mistakes.
func Parse(s Spec) (Exporter, error) {
	switch s.Kind {
	case Image:
		return parseImage(s, false)
	case "registry":
		return parseImage(s, true)
	case OCI:
		return parseOCI(s)
	case Docker:
		return parseDocker(s)
	case Local:
		return parseLocal(s)
	case Tar:
		return parseTar(s)
	case CacheOnly:
		return cacheOnly{}, read(s, nil, &struct{}{})
	}
	return nil, mistake.Unsupported("--output type="+s.Kind, "use image, registry, oci, docker, local, tar or cacheonly")
}

// option is one key that exporters of a type know.
type option[T any] struct {
	key string
	set func(e *T, key, value string) error
}

// within makes the options of a part those of the whole.
func within[T, P any](options []option[P], part func(*T) *P) []option[T] {
	var out []option[T]
	for _, o := range options {
		out = append(out, option[T]{o.key, func(e *T, key, value string) error { return o.set(part(e), key, value) }})
	}
	return out
}

// read sets the options of e that a spec has.
func read[T any](s Spec, options []option[T], e *T) error {
	for _, a := range s.Attrs {
		key := canonical(a.Key)
		name := key
		if strings.HasPrefix(key, annotationKey) {
			name = annotationKey
		}
		i := slices.IndexFunc(options, func(o option[T]) bool { return o.key == name })
		if i < 0 {
			return unknown(s.Kind, key, a.Value, keysOf(options))
		}
		if err := options[i].set(e, key, a.Value); err != nil {
			return err
		}
	}
	return nil
}

func keysOf[T any](options []option[T]) []string {
	var out []string
	for _, o := range options {
		out = append(out, o.key)
	}
	return out
}

// unknown refuses a key that a kind does not know.
func unknown(kind, key, value string, known []string) error {
	switch {
	case key == "oci-artifact", key == "attestation-inline", key == "attestation-prefix":
		return refuseAttestation(key, value)
	case strings.HasPrefix(key, annotationKey):
		if _, err := readAnnotation(key, value); err != nil {
			return err
		}
	case !slices.Contains(allKeys(), key):
		return mistake.Unsupported("--output "+key, "`builder build --help` tells what it knows")
	}
	return mistake.Unsupported("--output type="+kind+","+key, "it knows "+strings.Join(known, ", "))
}

// allKeys are those that any kind knows.
func allKeys() []string {
	return slices.Concat(keysOf(imageOptions()), keysOf(dockerOptions()), keysOf(localOptions()))
}

// refuseAttestation refuses what says how attestations are written: none are made.
func refuseAttestation(key, value string) error {
	if off, err := truth(key, value); err == nil && !off {
		return mistake.New("--output %s: no attestations are made", key).WithHint("leave %s out", key)
	}
	return mistake.Unsupported("--output "+key, "it is about attestations, and none are made")
}

// truth reads true or false; nothing means true.
func truth(key, value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, mistake.New("--output %s=%s: want true or false", key, value)
	}
	return b, nil
}

// flag is an option that is true or false.
func flag[T any](key string, field func(*T) *bool) option[T] {
	return option[T]{key, func(e *T, key, value string) (err error) {
		*field(e), err = truth(key, value)
		return err
	}}
}

// notFlag is an option whose field is the contrary.
func notFlag[T any](key string, field func(*T) *bool) option[T] {
	return option[T]{key, func(e *T, key, value string) error {
		b, err := truth(key, value)
		*field(e) = !b
		return err
	}}
}

// text is an option that is taken as it is.
func text[T any](key string, field func(*T) *string) option[T] {
	return option[T]{key, func(e *T, _, value string) error {
		*field(e) = value
		return nil
	}}
}

// epochOption reads source-date-epoch: seconds, or nothing for no epoch.
func epochOption[T any](field func(*T) **Epoch) option[T] {
	return option[T]{"source-date-epoch", func(e *T, _, value string) error {
		epoch := &Epoch{}
		*field(e) = epoch
		if value == "" {
			return nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return mistake.New("--output source-date-epoch=%s: want seconds since 1970", value)
		}
		t := time.Unix(n, 0).UTC()
		epoch.Time = &t
		return nil
	}}
}

// missing says that a destination is missing.
func missing(s Spec) *mistake.Error { return mistake.New("--output %q: dest is missing", s) }

// toStdout refuses to write a directory to stdout.
func toStdout(s Spec) error {
	return mistake.New("--output %q: a directory cannot go to stdout", s)
}
