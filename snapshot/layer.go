package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerID names a layer, and is its folder's name. It is derived from the ChainID of the
// stack that the layer completes, so that every process gives the same layer on the same
// layers the same name, and one that is made twice is stored once.
type LayerID string

// DiffID is the digest of a layer's uncompressed tar (OCI image-spec, config.md).
type DiffID digest.Digest

// ChainID names a stack of layers by their DiffIDs (OCI image-spec, config.md).
type ChainID digest.Digest

// Layer is what is known of one layer without touching its data. A Layer that a
// Store handed out may not be on disk yet (see Store.AddLazy).
type Layer struct {
	ID     LayerID
	DiffID DiffID
	// Content is a digest of the layer's change set without mtimes; equal
	// Content means that nothing that runs on top can tell the layers apart but
	// by time stamps. For a layer that was made elsewhere it is derived from DiffID
	// alone, unless somebody who had it made told its content (LazyLayer).
	Content digest.Digest
	// Size is the number of bytes of the uncompressed tar.
	Size    int64
	Created time.Time
	// Empty says that the layer has no entries.
	Empty bool `json:",omitempty"`
}

// Foreign reports whether the layer's tar was made elsewhere, as far as is known: its
// Content says so.
func (l Layer) Foreign() bool { return l.Content == foreignContent(l.DiffID) }

// Completes names the stack that the layer completed when it was made or added, which it may
// not be part of: a stack that was put together of others (--link) has layers that were made
// on other layers, or on none. What is known of a layer's data is known by this name.
func (l Layer) Completes() ChainID {
	return ChainID(digest.NewDigestFromEncoded(digest.SHA256, string(l.ID)))
}

// Stack is a file system: its layers, lowest first. The empty Stack is scratch.
type Stack []Layer

// ChainID returns the stack's name, "" for the empty stack.
func (s Stack) ChainID() ChainID {
	var chain ChainID
	for _, l := range s {
		chain = chain.With(l.DiffID)
	}
	return chain
}

// With returns the name of the stack with one more layer.
func (c ChainID) With(layer DiffID) ChainID {
	if c == "" {
		return ChainID(layer)
	}
	return ChainID(digest.FromString(string(c) + " " + string(layer)))
}

// Content returns a digest of the contents of all layers in order.
func (s Stack) Content() digest.Digest {
	d := digest.SHA256.Digester()
	for _, l := range s {
		io.WriteString(d.Hash(), string(l.Content)+"\n")
	}
	return d.Digest()
}

// LazyLayer describes a layer that a registry has and the store may lack.
type LazyLayer struct {
	DiffID DiffID
	// Content, unless empty, is the Layer.Content that a record or an image promises:
	// the layer was made by this program somewhere. It is verified when the layer is
	// unpacked.
	Content digest.Digest
	// Blob is the compressed form; its MediaType tells the compression.
	Blob ocispec.Descriptor
	// Open reads the blob; the caller closes it. The reader mends what can be mended: it
	// goes on where a connection broke, tries again a bounded number of times, and ends
	// with ctx. It ends with io.EOF after Blob.Size bytes only (if that is not 0). The
	// store tries nothing again; it verifies the digest.
	Open func(ctx context.Context) (io.ReadCloser, error)
}
