package actions

import (
	"context"
	"fmt"
	"io"

	"layered.build/builder/cache/shared"
)

// absent is a place that this process cannot reach: it is not in a job.
type absent struct{ why string }

var _ shared.Backend = absent{}

// String implements shared.Backend.
func (absent) String() string { return "GitHub Actions" }

func (a absent) err() error { return fmt.Errorf("%s; %s", a.why, where) }

// Missing implements shared.Blobs.
func (a absent) Missing(context.Context, []shared.Blob) ([]shared.Blob, error) { return nil, a.err() }

// Store implements shared.Blobs.
func (a absent) Store(context.Context, shared.Blob, shared.Content) error { return a.err() }

// Open implements shared.Blobs.
func (a absent) Open(context.Context, shared.Blob, int64) (io.ReadCloser, error) {
	return nil, a.err()
}

// Index implements shared.Indexes.
func (a absent) Index(context.Context, string) ([]byte, string, error) { return nil, "", a.err() }

// Replace implements shared.Indexes.
func (a absent) Replace(context.Context, string, []byte, []shared.Blob, string) error { return a.err() }
