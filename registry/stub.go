package registry

import (
	"context"
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

var errTodo = errors.New("not written yet")

// Client talks to registries. It is safe for concurrent use.
type Client struct{}

// New makes a client that keeps what it fetches in store and images.
func New(store *snapshot.Store, images *Images, opts Options) (*Client, error) { return nil, errTodo }

// Resolve finds the image that ref means for a platform, without its layers. A
// reference by digest whose metadata the store has makes no request.
func (c *Client) Resolve(ctx context.Context, ref string, platform ocispec.Platform) (*Resolved, error) {
	return nil, errTodo
}

// Layers registers the image's layers with the store, which fetches them when
// they are needed.
func (c *Client) Layers(ctx context.Context, r *Resolved) (snapshot.Stack, error) {
	return nil, errTodo
}

// Pull resolves an image, fetches its layers and names it.
func (c *Client) Pull(ctx context.Context, ref string, platform ocispec.Platform, progress Progress) (*Image, error) {
	return nil, errTodo
}

// Push sends an image under a name and returns its manifest's descriptor.
func (c *Client) Push(ctx context.Context, ref string, img *Image, opts PushOptions) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errTodo
}
