package registry

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

var errTodo = errors.New("not written yet")

// Client talks to registries. It is safe for concurrent use.
type Client struct{}

// New makes a client that keeps what it fetches in store and images.
func New(store Layers, images *Images, opts Options) (*Client, error) { return nil, errTodo }

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

// OpenImages opens (or makes) the images of the store at root.
func OpenImages(root string) (*Images, error) { return nil, errTodo }

// Put stores an image and points names (any form) at it.
func (s *Images) Put(img *Image, names ...string) error { return errTodo }

// PutV1 stores records of steps.
func (s *Images) PutV1(recs ...V1Record) error { return errTodo }

// ResolveLocal finds an image by name, id or prefix of one, or by the id of a V1
// record. Errors match ErrNotFound or ErrAmbiguous.
func (s *Images) ResolveLocal(ref string) (*Image, error) { return nil, errTodo }

// V1 finds a V1 record by id or a prefix of one.
func (s *Images) V1(id string) (*V1Record, error) { return nil, errTodo }

// V1Chain returns the records of an image's own instructions, the newest first.
func (s *Images) V1Chain(id digest.Digest) ([]V1Record, error) { return nil, errTodo }

// List returns all images, the newest first; dangling ones too.
func (s *Images) List() ([]ImageInfo, error) { return nil, errTodo }

// Tag points another name at an image.
func (s *Images) Tag(source, name string) error { return errTodo }

// Remove removes a name, and with the last name the image's record. An image
// given by id that has several names is removed only with force.
func (s *Images) Remove(ref string, force bool) (*Removed, error) { return nil, errTodo }

// History returns the lines of docker history.
func (s *Images) History(img *Image) ([]HistoryEntry, error) { return nil, errTodo }

// Inspect returns what docker inspect prints.
func (s *Images) Inspect(img *Image) (*Inspect, error) { return nil, errTodo }

// Roots returns the layers that images and V1 records need.
func (s *Images) Roots() ([]snapshot.LayerID, error) { return nil, errTodo }

// Assemble makes the image: configuration with rootfs and history. The same
// input gives the same bytes.
func Assemble(in AssembleInput) (*Image, error) { return nil, errTodo }

// V1Records makes the records of all instructions, the oldest first.
func V1Records(in AssembleInput) ([]V1Record, error) { return nil, errTodo }
