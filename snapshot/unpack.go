package snapshot

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/archive"
	"layered.build/builder/snapshot/object"
)

// unpackTarget says what a tar is unpacked to, and on top of what.
type unpackTarget struct {
	// maker makes the objects.
	maker *object.Maker
	// dir is made; it receives the objects. dup is made if contents have to be set
	// aside that later entries of the tar replaced.
	dir, dup string
	// manifestPath and splitPath are the files that are made.
	manifestPath, splitPath string
	// based says that there are layers below, whose merged view lowerTree returns when
	// it is needed.
	based     bool
	lowerTree func(context.Context) (Tree, error)
	// grow is told of bytes before they take room on the disk.
	grow func(bytes int64) error
	// stop, unless nil, ends a read of the stream that blocks.
	stop func()
}

// unpacked is what a tar was.
type unpacked struct {
	// digest and size are those of the uncompressed tar.
	digest digest.Digest
	size   int64
	// root is the metadata of the root directory, if the tar has it.
	root *object.Root
	// empty says that the layer changes nothing, whiteouts that it has some in its
	// directory.
	empty, whiteouts bool
	// movable says that the directory is the same whatever lies below.
	movable bool
}

// unpackTar makes a layer of a stream, which may be compressed: reading, decompressing
// and hashing, and writing files overlap. The stream is read to its end.
func unpackTar(ctx context.Context, r io.Reader, to unpackTarget) (*unpacked, error) {
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
	if to.stop != nil {
		defer to.stop() // before the goroutines are waited for
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
	out.digest, out.size = hashed.digest(), hashed.n
	return out, nil
}
