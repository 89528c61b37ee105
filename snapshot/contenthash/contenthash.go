// Package contenthash computes digests of selected paths of a tree: names, types,
// modes, owners, link targets, extended attributes and bytes, without times.
package contenthash

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// Options refine Paths.
type Options struct {
	// Skip, if set, leaves out an object (and for a directory all below it).
	Skip func(e *snapshot.Entry) bool
	// IgnoreOwner leaves uid and gid out (COPY sets them anyway).
	IgnoreOwner bool
	// IgnoreMode leaves the permission bits out.
	IgnoreMode bool
}

// Paths returns one digest of the objects at the given paths and all below them.
// Symlinks are hashed, not followed: resolve paths first. A path that does not
// exist is an error that matches fs.ErrNotExist. The order of paths counts.
func Paths(ctx context.Context, t snapshot.Tree, paths []string, opts Options) (digest.Digest, error) {
	return "", errors.New("not implemented yet")
}
