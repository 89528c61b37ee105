// Package layout writes images as OCI image layouts and as docker archives, and reads
// both. Layers are streamed; what is held in memory is metadata.
package layout

import (
	"layered.build/builder/registry"
)

// Item is an image with the names that it has in the archive (any form; none for
// an image without a name).
type Item struct {
	Image *registry.Image
	// Index is set instead of Image for an image of several platforms; docker
	// archives cannot hold one.
	Index *registry.Index
	Names []string
	// Annotations are added to the entries of an OCI layout's index.json.
	Annotations map[string]string
	// Docker adds docker's manifest.json to an OCI layout of one image, so that
	// docker load takes it.
	Docker bool
}
