package export

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser/mistake"
)

// annotationKey begins the keys of options that are annotations.
const annotationKey = "annotation"

// Annotation is one OCI annotation and what gets it: manifests, the index, or their
// descriptors.
type Annotation struct {
	kinds      []string // manifest, manifest-descriptor, index, index-descriptor
	platform   *ocispec.Platform
	key, value string
}

func (a Annotation) has(kind string) bool { return slices.Contains(a.kinds, kind) }

// isFor reports whether the annotation is for what belongs to a platform, or with nil to
// none.
func (a Annotation) isFor(p *ocispec.Platform) bool {
	return a.platform == nil || p != nil && platforms.FormatAll(*a.platform) == platforms.FormatAll(platforms.Normalize(*p))
}

// newAnnotation reads where an annotation goes: "", "TYPE", "TYPE,TYPE[PLATFORM]".
func newAnnotation(where, key, value string) (Annotation, error) {
	a := Annotation{kinds: []string{"manifest"}, key: key, value: value}
	if key == "" {
		return a, errors.New("the annotation's name is missing")
	}
	kinds, rest, bracket := strings.Cut(where, "[")
	if bracket {
		name, ok := strings.CutSuffix(rest, "]")
		p, err := platforms.Parse(name)
		if !ok || err != nil {
			return a, fmt.Errorf("%q is not a platform in brackets", "["+rest)
		}
		p = platforms.Normalize(p)
		a.platform = &p
	}
	if kinds != "" {
		a.kinds = strings.Split(kinds, ",")
	}
	for _, k := range a.kinds {
		switch k {
		case "manifest", "manifest-descriptor", "index", "index-descriptor":
		default:
			return a, fmt.Errorf("unknown type %q: want manifest, manifest-descriptor, index or index-descriptor", k)
		}
		if a.platform != nil && strings.HasPrefix(k, "index") {
			return a, fmt.Errorf("%s is of all platforms, it cannot be chosen by one", k)
		}
	}
	return a, nil
}

// ParseAnnotation reads [TYPE[,TYPE][PLATFORM]:]KEY=VALUE. Errors are mistakes.
func ParseAnnotation(text string) (Annotation, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return Annotation{}, mistake.New("--annotation %q: want KEY=VALUE", text)
	}
	where := ""
	if i := strings.LastIndexByte(key, ':'); i >= 0 {
		where, key = key[:i], key[i+1:]
	}
	a, err := newAnnotation(where, key, value)
	if err != nil {
		return a, mistake.New("--annotation %q: %w", text, err)
	}
	return a, nil
}

// readAnnotation reads the option annotation[-TYPE][[PLATFORM]].KEY=VALUE.
func readAnnotation(key, value string) (Annotation, error) {
	rest, ok := strings.CutPrefix(key, annotationKey)
	where, name, dot := strings.Cut(rest, ".")
	if i := strings.IndexByte(rest, '['); ok && i >= 0 { // a platform may have dots
		if j := strings.Index(rest[i:], "]."); j >= 0 {
			where, name, dot = rest[:i+j+1], rest[i+j+2:], true
		}
	}
	if !ok || !dot || where != "" && where[0] != '-' && where[0] != '[' {
		return Annotation{}, mistake.Unsupported("--output "+key, "`builder build --help` tells what it knows")
	}
	a, err := newAnnotation(strings.TrimPrefix(where, "-"), name, value)
	if err != nil {
		return a, mistake.New("--output %s: %w", key, err)
	}
	return a, nil
}

// WithAnnotations returns an exporter that gives its image annotations, too; false if it
// makes none that could have any.
func WithAnnotations(e Exporter, notes []Annotation) (Exporter, bool) {
	switch e := e.(type) {
	case imageExporter:
		e.annotations = slices.Concat(e.annotations, notes)
		return e, true
	case ociExporter:
		e.annotations = slices.Concat(e.annotations, notes)
		return e, true
	}
	return e, false
}
