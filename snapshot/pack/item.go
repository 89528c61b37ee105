package pack

import (
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// Item is one entry on its way into a tar and a manifest.
type Item struct {
	// Record is normal (Normalize). Digests, offsets and what hard links take over from
	// their first file are filled in.
	Record manifest.Record
	// Host is the file that holds a regular file's content; Open is used where it is
	// "", and may be nil for an empty file.
	Host string
	Open func() (io.ReadCloser, error)
	// Want, unless empty, is the digest that the content must have.
	Want digest.Digest
	// Linked says that later items may be hard links to this one.
	Linked bool
	// Dest, unless "", is where the object is made too; it ends with the path.
	Dest string
}

// Normalize leaves in an entry only what its type has, so that equal objects have
// equal records, limits its time to the epoch, if there is one, and refuses what cannot
// be in a layer.
func Normalize(e *manifest.Entry, epoch *time.Time) error {
	e.Limit(e.TrueTime(), epoch)
	e.Mode &= 0o7777
	e.Digest = ""
	if e.Type != manifest.TypeFile {
		e.Size = 0
	}
	if e.Type == manifest.TypeDir {
		e.Hardlink = ""
	}
	if e.Type != manifest.TypeSymlink {
		e.Linkname = ""
	}
	if e.Type != manifest.TypeChar && e.Type != manifest.TypeBlock {
		e.DevMajor, e.DevMinor = 0, 0
	}
	for k := range e.Xattrs {
		if !object.IsLayerXattr(k) {
			e.Xattrs = maps.Clone(e.Xattrs)
			maps.DeleteFunc(e.Xattrs, func(k, _ string) bool { return !object.IsLayerXattr(k) })
			break
		}
	}
	switch e.Type {
	case manifest.TypeSymlink:
		e.Mode = 0o777
	case manifest.TypeWhiteout:
		*e = manifest.Entry{Path: e.Path, Type: manifest.TypeWhiteout, ModTime: time.Unix(0, 0)}
	case manifest.TypeSocket:
		return fmt.Errorf("%s: a socket cannot be in a layer", e.Path)
	case manifest.TypeFile, manifest.TypeDir, manifest.TypeChar, manifest.TypeBlock, manifest.TypeFifo:
	default:
		return fmt.Errorf("%s: unknown type %q", e.Path, e.Type)
	}
	return nil
}
