// Package tree has read-only file trees: what a tree can be asked, how paths are
// resolved and walked in any of them, and the merged view of a stack of layers.
package tree

import (
	"io"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
)

// Tree is a read-only file tree: the merged view of a layer stack, or a build
// context. Paths are as in Entry.Path. No method follows symlinks, also not in
// the middle of a path: use ResolvePath for that. Errors match fs.ErrNotExist.
// A Tree is safe for concurrent use.
type Tree interface {
	// Lstat describes one object. Digest may be empty.
	Lstat(path string) (*manifest.Entry, error)
	// ReadDir lists a directory's children, sorted by name.
	ReadDir(path string) ([]*manifest.Entry, error)
	// Open opens a regular file; the caller closes it.
	Open(path string) (io.ReadCloser, error)
	// Digest returns the content digest of a regular file, from an index where
	// one is known to be true, else by reading the file.
	Digest(path string) (digest.Digest, error)
}

// SameFiler is a Tree that knows which of its paths are one object.
type SameFiler interface {
	// SameFile returns a name that the hard links of an object have in common, "" if
	// there are none or no such object.
	SameFile(path string) string
}

// HostPather is a Tree that can say where an object really lies on this machine
// (for bind mounts, links and reflinks). The path must not be written to.
type HostPather interface {
	HostPath(path string) (string, bool)
}
