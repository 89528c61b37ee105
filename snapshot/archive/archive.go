// Package archive reads tar streams, compressed or not, into directories, and
// writes the canonical tar of a layer.
package archive

import (
	"context"
	"errors"
	"io"
	"time"
)

// IsArchive reports whether data that begins with header is a tar, plain or
// compressed in a way that ADD unpacks. 1024 bytes of header are enough; for a
// compressed one the tar inside is not looked at unless header holds enough.
func IsArchive(header []byte) bool { return false }

// Owner is a user and a group.
type Owner struct{ UID, GID uint32 }

// Options refine Unpack. The zero value keeps what the archive says.
type Options struct {
	// Owner, if set, owns everything that is unpacked.
	Owner *Owner
	// Mode, if set, is the mode of everything that is unpacked, but symlinks.
	Mode *uint32
	// Epoch, if set, is the latest modification time.
	Epoch *time.Time
}

// Unpack extracts a tar, compressed or not (found out from the content), below
// dest, an absolute path inside root. Symlinks are resolved in root and never
// lead out of it. Missing directories of dest are made (root-owned, or
// opts.Owner, 0755).
func Unpack(ctx context.Context, root, dest string, r io.Reader, opts Options) error {
	return errors.New("not implemented yet")
}
