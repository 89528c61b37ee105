package shared

import (
	"context"
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// ErrConflict says that an index was replaced by somebody else meanwhile.
var ErrConflict = errors.New("the index has changed meanwhile")

// Backend is a place where a shared cache is kept. Implementations are safe for concurrent
// use by goroutines, and by processes that share the place. Every call ends in bounded time
// if the place is silent. Errors hold no credentials.
type Backend interface {
	// String names the place for people, without credentials.
	String() string
	Blobs
	Indexes
}

// Blobs are contents by digest.
type Blobs interface {
	// Missing returns those of the blobs that the place lacks.
	Missing(ctx context.Context, blobs []Blob) ([]Blob, error)
	// Store keeps a blob; it is no error if the place has it already.
	Store(ctx context.Context, b Blob, content Content) error
	// Open reads a blob from an offset; the caller closes the reader and verifies what it
	// gives. The error matches fs.ErrNotExist if the place lacks it. Nothing is tried again.
	Open(ctx context.Context, b Blob, offset int64) (io.ReadCloser, error)
}

// Blob is a content. DiffID, unless empty, is the layer that it is a compressed form of.
type Blob struct {
	ocispec.Descriptor
	DiffID snapshot.DiffID
}

// Content opens the bytes of a blob from an offset; the caller closes the reader.
type Content func(ctx context.Context, offset int64) (io.ReadCloser, error)

// Indexes are the indexes of a place, by the names of scopes; "" is the place's own.
type Indexes interface {
	// Index returns the index of a scope, and a version that Replace takes. The error
	// matches fs.ErrNotExist if there is none.
	Index(ctx context.Context, scope string) (data []byte, version string, err error)
	// Replace puts an index in place of the one of a version; "" is none. The blobs are
	// those that it names; all are there, and the place keeps them as long as the index.
	// The error matches ErrConflict if the index is of another version; a place that
	// cannot know (Loose) overwrites.
	Replace(ctx context.Context, scope string, data []byte, blobs []Blob, version string) error
}

// Loose is implemented by places whose Replace may overwrite what others wrote meanwhile:
// then it is looked at again afterwards.
type Loose interface{ Loose() bool }

// Keeper is implemented by places whose blobs can be fetched without this package too.
type Keeper interface {
	// Keep remembers that the place has a compressed form of a layer: later processes
	// find it there.
	Keep(layer snapshot.DiffID, form ocispec.Descriptor) error
}

// LayerStore is implemented by places that can send a layer of this machine while it is
// being compressed, in the usual form.
type LayerStore interface {
	// StoreLayer makes sure that the place has the last layer of a stack, and describes
	// the form that it has.
	StoreLayer(ctx context.Context, stack snapshot.Stack) (ocispec.Descriptor, error)
}

// Several is implemented by places that options may name several of at once.
type Several interface {
	// Others are those beside this one, in their order. They are read, not written to.
	Others() []Backend
}

// Named is implemented by places that keep several indexes beside one another, which String
// calls the same.
type Named interface {
	// IndexName tells the place's own index, and where its blobs are, from others.
	IndexName() string
}

// samePlace reports whether two places have the same index and blobs.
func samePlace(a, b Backend) bool { return a.String() == b.String() && indexName(a) == indexName(b) }

func indexName(b Backend) string {
	if n, ok := b.(Named); ok {
		return n.IndexName()
	}
	return ""
}

// Retirer is implemented by places that keep an index, and what it names, after another one
// took its place.
type Retirer interface {
	// Retire removes the index of a version, unless the place has it for something else too.
	Retire(ctx context.Context, version string) error
}

// Remover is implemented by places that can remove blobs.
type Remover interface {
	// Remove removes those of the blobs that no index of the place names. One that is not
	// there is no error. The error matches errors.ErrUnsupported if the place turns out not
	// to be able to.
	Remove(ctx context.Context, blobs []Blob) error
}
