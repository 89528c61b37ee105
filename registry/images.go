package registry

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Images are the images of one store: names, what they point at, and the V1
// records of the steps that made them. They are plain files below
// <root>/images; several processes may change them at once. See docs/FORMAT.md.
type Images struct {
	root string
}

// ImageInfo is one line of docker images.
type ImageInfo struct {
	// ID is the digest of the configuration.
	ID digest.Digest
	// Names are normalised; none for a dangling image.
	Names    []string
	Manifest *ocispec.Descriptor `json:",omitempty"`
	Platform ocispec.Platform
	Created  time.Time
	// Size is the sum of the uncompressed layers, in bytes.
	Size int64
}

// Removed says what Remove did.
type Removed struct {
	Untagged []string
	// Deleted is the image whose record is gone, "" if it has other names.
	Deleted digest.Digest
}
