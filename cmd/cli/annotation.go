package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser/mistake"
)

// annotation is one OCI annotation and what gets it.
type annotation struct {
	kinds      []string // manifest, manifest-descriptor, index, index-descriptor
	platform   *ocispec.Platform
	key, value string
}

func (a annotation) has(kind string) bool { return slices.Contains(a.kinds, kind) }

// newAnnotation reads where an annotation goes: "", "TYPE", "TYPE,TYPE[PLATFORM]".
func newAnnotation(where, key, value string) (annotation, error) {
	a := annotation{kinds: []string{"manifest"}, key: key, value: value}
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

// parseAnnotations reads --annotation [TYPE[,TYPE][PLATFORM]:]KEY=VALUE.
func parseAnnotations(values []string) ([]annotation, error) {
	var out []annotation
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, mistake.New("--annotation %q: want KEY=VALUE", v)
		}
		where := ""
		if i := strings.LastIndexByte(key, ':'); i >= 0 {
			where, key = key[:i], key[i+1:]
		}
		a, err := newAnnotation(where, key, value)
		if err != nil {
			return nil, mistake.New("--annotation %q: %w", v, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// annotations are those that go to one thing, nil if none.
func (o *output) annotated(kind string, p *ocispec.Platform) map[string]string {
	var out map[string]string
	for _, a := range o.annotations {
		if !a.has(kind) || a.platform != nil && (p == nil || platforms.FormatAll(*a.platform) != platforms.FormatAll(platforms.Normalize(*p))) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[a.key] = a.value
	}
	return out
}
