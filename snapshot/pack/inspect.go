package pack

import (
	"io"

	"layered.build/builder/snapshot/manifest"
)

// Inspector sees the entries of a layer while it is made, and may refuse it. Its
// methods are called from several goroutines.
type Inspector interface {
	// Inspect is told an entry; an error ends the making of the layer.
	Inspect(e *manifest.Entry) error
	// Content returns what receives the content of a regular file, in order; an
	// error of its Write ends the making of the layer.
	Content(e *manifest.Entry) io.Writer
}
