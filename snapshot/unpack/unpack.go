// Package unpack makes the directory, the manifest and the tarsplit of a layer from a
// tar that was made elsewhere, and the directory of one whose tar was made here.
package unpack

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/archive"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/tree"
)

// Target says what a tar is unpacked to, and on top of what.
type Target struct {
	// Maker makes the objects.
	Maker *object.Maker
	// Dir is made; it receives the objects.
	Dir string
	// Dup is made if contents have to be set aside that later entries of the tar
	// replaced.
	Dup string
	// Manifest and Split are the files that are made.
	Manifest, Split string
	// Own says that the tar was made by package pack: Layer.Content is then what the
	// manifest that was made with it had.
	Own bool
	// Based says that there are layers below.
	Based bool
	// Lower returns the merged view of the layers below. It is called when that is
	// needed, and only if there are any.
	Lower func(context.Context) (tree.Tree, error)
	// Grow is told of bytes before they take room on the disk; an error ends all.
	Grow func(bytes int64) error
	// Stop, unless nil, ends a read of the stream that blocks.
	Stop func()
}

// Layer is what a tar was.
type Layer struct {
	// Digest and Size are those of the uncompressed tar.
	Digest digest.Digest
	Size   int64
	// Content is the digest of the entries.
	Content digest.Digest
	// LeavesOut says that the digest of a file in it leaves runs of zeros out.
	LeavesOut bool
	// Root is the metadata of the root directory, if the tar has it.
	Root *object.Root
	// Empty says that the layer changes nothing.
	Empty bool
	// Whiteouts says that there are some in the directory, or opaque marks.
	Whiteouts bool
	// Movable says that the directory is the same whatever lies below.
	Movable bool
}

// Tar makes a layer of a stream, which may be compressed: reading, decompressing and
// hashing, and writing files overlap. The stream is read to its end, so that its digest
// can be told. After an error the target is in no defined state.
func Tar(ctx context.Context, r io.Reader, to Target) (*Layer, error) {
	raw := newReadAhead(ctx, r)
	defer raw.Close()
	z, _, err := archive.Decompress(raw)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer z.Close()
	plain := newReadAhead(ctx, z)
	defer plain.Close()
	// Decompressing takes longest, so nothing else is done by its goroutine.
	hashed := newStreamHash()
	plain.seen = hashed.add
	if to.Stop != nil {
		defer to.Stop() // before the goroutines are waited for
	}
	a, err := newApplier(ctx, to)
	if err != nil {
		return nil, err
	}
	out, err := a.run(plain)
	if err != nil {
		return nil, err
	}
	// What follows the compressed stream belongs to the blob all the same.
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return nil, err
	}
	out.Digest, out.Size = hashed.digest(), hashed.n
	return out, nil
}
