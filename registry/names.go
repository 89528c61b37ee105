package registry

import (
	"context"

	"layered.build/builder/registry/assemble"
	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/imagestore"
	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/reference"
	"layered.build/builder/registry/transport"
	"layered.build/builder/snapshot"
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

// The nouns of package image.
type (
	// Image is one image of one platform: configuration and layers.
	Image = image.Image
	// ImageConfig is Docker's image configuration.
	ImageConfig = image.Config
	// Index is what one name means on several platforms.
	Index = image.Index
	// Form is what an image's manifest looks like.
	Form = image.Form
	// V1Image is Docker's classic image record.
	V1Image = image.V1Image
	// V1Record is a V1Image with what is needed to run it and to build on it.
	V1Record = image.V1Record
	// V1Maker makes a V1Record when it is missing.
	V1Maker = image.V1Maker
)

// Compression is how layers are compressed; see compression.Config.
type Compression = compression.Config

// The nouns of package imagestore.
type (
	// Images are the images of one store; see imagestore.Store.
	Images = imagestore.Store
	// HistoryEntry is one line of docker history, the newest first.
	HistoryEntry = imagestore.HistoryEntry
)

// OpenImages opens (or makes) the images of a store.
func OpenImages(store *snapshot.Store) (*Images, error) { return imagestore.Open(store) }

// Retry says how often a request that failed for a passing reason is made again.
type Retry = transport.Retry

// Timeouts bound how long a silent peer is waited for.
type Timeouts = transport.Timeouts

// AssembleInput is what an image is made of.
type AssembleInput = assemble.Input

// AssembleStep is one instruction of an image.
type AssembleStep = assemble.Step

// Assemble makes the image; see assemble.Image.
func Assemble(in AssembleInput) (*Image, error) { return assemble.Image(in) }

// V1Records gives the records of all instructions to put, the oldest first, and returns the
// id of the last, "" if there is none.
func V1Records(in AssembleInput, put func(V1Maker) error) (string, error) {
	return assemble.V1Records(in, put)
}

// Progress is told about transfers; see progress.Func.
type Progress = progress.Func

// WithProgress returns a context in which fetches, compressions and uploads, whoever
// starts them, are told to p; nil tells nobody.
func WithProgress(ctx context.Context, p Progress) context.Context { return progress.With(ctx, p) }

// ProgressOf returns what WithProgress put into a context, or a function that does
// nothing.
func ProgressOf(ctx context.Context) Progress { return progress.Of(ctx) }
