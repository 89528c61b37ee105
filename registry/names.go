package registry

import (
	"context"

	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/reference"
)

// The kinds of failure, as package errdef explains them; match with errors.Is.
var (
	ErrNotFound     = errdef.ErrNotFound
	ErrUnauthorized = errdef.ErrUnauthorized
	ErrUnreachable  = errdef.ErrUnreachable
	ErrBadDigest    = errdef.ErrBadDigest
	ErrRefused      = errdef.ErrRefused
	ErrInvalid      = errdef.ErrInvalid
	ErrAmbiguous    = errdef.ErrAmbiguous
)

// Error is a failure in talking to a registry. It never contains a secret.
type Error = errdef.Error

// Reference is a normalised image name, with docker's defaults filled in.
type Reference = reference.Reference

// ParseReference normalises a name as docker does: "alpine" is
// docker.io/library/alpine:latest. Errors match ErrInvalid.
func ParseReference(s string) (Reference, error) { return reference.Parse(s) }

// Compression is how layers are compressed; see compression.Config.
type Compression = compression.Config

// Progress is told about transfers; see progress.Func.
type Progress = progress.Func

// WithProgress returns a context in which fetches, compressions and uploads, whoever
// starts them, are told to p; nil tells nobody.
func WithProgress(ctx context.Context, p Progress) context.Context { return progress.With(ctx, p) }

// ProgressOf returns what WithProgress put into a context, or a function that does
// nothing.
func ProgressOf(ctx context.Context) Progress { return progress.Of(ctx) }
