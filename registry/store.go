package registry

import (
	"context"
	"io"

	image "github.com/moby/docker-image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// ImageConfig is Docker's image configuration (a superset of OCI's: Healthcheck,
// OnBuild, Shell).
type ImageConfig = image.DockerOCIImage

// Layers is what this package needs of the layer store; *snapshot.Store is one.
type Layers interface {
	// Lookup returns the layer that completes a chain, if it is on disk.
	Lookup(chain snapshot.ChainID) (snapshot.Layer, bool)
	// AddLazy registers a layer that is fetched when its data are needed.
	AddLazy(parent snapshot.Stack, l snapshot.LazyLayer) (snapshot.Layer, error)
	// Materialize fetches and unpacks what is missing.
	Materialize(ctx context.Context, s snapshot.Stack) error
	// Import applies a tar now.
	Import(ctx context.Context, parent snapshot.Stack, diffID snapshot.DiffID, r io.Reader) (snapshot.Layer, error)
	// Tar returns the exact uncompressed tar of a layer.
	Tar(ctx context.Context, l snapshot.Layer) (io.ReadCloser, error)
}
