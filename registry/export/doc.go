// Package export writes images as OCI layouts and docker archives, and loads
// both.
package export

import (
	"context"
	"errors"
	"io"

	"layered.build/builder/registry"
)

var errTodo = errors.New("not written yet")

// Item is an image with the names that it has in the archive (normalised; none
// for an image without a name).
type Item struct {
	Image *registry.Image
	Names []string
}

// WriteOCI writes an OCI image layout as a tar.
func WriteOCI(ctx context.Context, w io.Writer, c *registry.Client, items ...Item) error {
	return errTodo
}

// WriteDocker writes what docker save does.
func WriteDocker(ctx context.Context, w io.Writer, c *registry.Client, items ...Item) error {
	return errTodo
}

// Load reads an OCI layout or a docker archive, compressed or not, into the
// store, and returns the images with their names.
func Load(ctx context.Context, r io.Reader, c *registry.Client) ([]*registry.Image, error) {
	return nil, errTodo
}
