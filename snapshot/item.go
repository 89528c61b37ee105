package snapshot

import (
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"
	"layered.build/builder/snapshot/manifest"
)

// normalize leaves in an entry only what its type has, so that equal objects have
// equal records.
func normalize(e *Entry, epoch *time.Time) error {
	e.Limit(e.TrueTime(), epoch)
	e.Mode &= 0o7777
	e.Digest = ""
	if e.Type != TypeFile {
		e.Size, e.Hardlink = 0, ""
	}
	if e.Type != TypeSymlink {
		e.Linkname = ""
	}
	if e.Type != TypeChar && e.Type != TypeBlock {
		e.DevMajor, e.DevMinor = 0, 0
	}
	for k := range e.Xattrs {
		if !IsLayerXattr(k) {
			e.Xattrs = maps.Clone(e.Xattrs)
			maps.DeleteFunc(e.Xattrs, func(k, _ string) bool { return !IsLayerXattr(k) })
			break
		}
	}
	switch e.Type {
	case TypeSymlink:
		e.Mode = 0o777
	case TypeWhiteout:
		*e = Entry{Path: e.Path, Type: TypeWhiteout, ModTime: time.Unix(0, 0)}
	case TypeSocket:
		return fmt.Errorf("%s: a socket cannot be in a layer", e.Path)
	case TypeFile, TypeDir, TypeChar, TypeBlock, TypeFifo:
	default:
		return fmt.Errorf("%s: unknown type %q", e.Path, e.Type)
	}
	return nil
}

// packItem is one entry on its way into a tar and a manifest.
type packItem struct {
	rec manifest.Record
	// host is the file that holds the content; open is used where it is "".
	host string
	open func() (io.ReadCloser, error)
	// want, unless empty, is the digest that the content must have.
	want digest.Digest
	// linked says that later items may be hard links to this one.
	linked bool
	// dest, unless "", is where the object is made too.
	dest string
}
