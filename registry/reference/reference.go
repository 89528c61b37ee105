// Package reference has the names of images as docker reads them.
package reference

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/parser/imageref"
	"layered.build/builder/registry/errdef"
)

// Reference is a normalised image name, with docker's defaults filled in.
type Reference struct {
	Domain string // docker.io
	Path   string // library/alpine
	Tag    string // "latest" unless there is a digest
	Digest digest.Digest
}

// Parse normalises a name as docker does: "alpine" is
// docker.io/library/alpine:latest. Errors match ErrInvalid.
func Parse(s string) (Reference, error) {
	n, err := imageref.Parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %q: %w: %w", s, errdef.ErrInvalid, err)
	}
	r := Reference(n)
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// Repository returns domain/path.
func (r Reference) Repository() string { return r.Domain + "/" + r.Path }

// String returns the full form, docker.io/library/alpine:latest.
func (r Reference) String() string { return r.Repository() + r.suffix() }

// Familiar returns the short form that docker prints, alpine:latest.
func (r Reference) Familiar() string {
	return imageref.Familiar(r.Domain, r.Path) + r.suffix()
}

func (r Reference) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// Familiar shortens a normalised name as docker shows it.
func Familiar(name string) string {
	ref, err := Parse(name)
	if err != nil {
		return name
	}
	return ref.Familiar()
}
