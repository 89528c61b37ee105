// Package errdef has the kinds of failure of everything that deals with images, and
// the error that says how a request to a registry failed.
package errdef

import (
	"errors"
	"strings"

	"layered.build/builder/snapshot"
)

// The kinds of failure that a caller may want to tell apart; match with errors.Is.
var (
	// ErrNotFound: the registry answered, and has no such repository, tag,
	// manifest, platform or blob; or no local image has that name.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry wants (other) credentials, or they do not
	// allow this.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrUnreachable: no answer (name resolution, connection, TLS, time-out), or
	// only answers that say "later" (429, 5xx).
	ErrUnreachable = errors.New("unreachable")
	// ErrBadDigest: the bytes are not those that the digest or size promised.
	ErrBadDigest = snapshot.ErrDigest
	// ErrRefused: the registry answered, and does not accept the request.
	ErrRefused = errors.New("refused")
	// ErrInvalid: a reference, a configuration file or an image is malformed.
	ErrInvalid = errors.New("invalid")
	// ErrAmbiguous: an image id prefix fits several images.
	ErrAmbiguous = errors.New("ambiguous")
)

// Error is a failure in talking to a registry. It never contains a secret.
type Error struct {
	// Kind is one of the Err… values above.
	Kind error
	// Op and Object say what was attempted: "push layer", "sha256:…".
	Op, Object string
	// Host is the registry or mirror that was asked.
	Host string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Credentials says which were used: `user "alice" (/root/.docker/config.json)`,
	// or "none"; "" where it does not matter.
	Credentials string
	// Hint is what the user might do.
	Hint string
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteString(" " + e.Object)
	}
	if e.Host != "" {
		b.WriteString(" at " + e.Host)
	}
	b.WriteString(": ")
	text := ""
	if e.Err != nil {
		text = e.Err.Error()
	}
	if !strings.HasPrefix(text, e.Kind.Error()) {
		b.WriteString(e.Kind.Error())
	}
	if e.Credentials != "" {
		b.WriteString(" (credentials: " + e.Credentials + ")")
	}
	if text != "" {
		if !strings.HasPrefix(text, e.Kind.Error()) {
			b.WriteString(": ")
		}
		b.WriteString(text)
	}
	return b.String()
}

// Unwrap makes both the kind and the cause visible to errors.Is and errors.As.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }
