package oci

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared"
)

const (
	// ofImage begins the version of an index that an image holds. Such a one is not replaced.
	ofImage = "image "
	// maxConfig is the largest configuration that is read.
	maxConfig = 16 << 20
	// maxImages is how many images of an index are looked at.
	maxImages = 64
	// attestationKind is what BuildKit's indexes name beside images.
	attestationKind = "vnd.docker.reference.type"
)

// inline makes an index of those in the images that a manifest, or all manifests of an index,
// are of. Get reads a manifest or another blob.
func inline(raw []byte, get func(d ocispec.Descriptor, manifest bool) ([]byte, error)) ([]byte, error) {
	manifests := [][]byte{raw}
	var top struct{ Manifests []ocispec.Descriptor }
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, fmt.Errorf("no manifest: %w", err)
	}
	if len(top.Manifests) > 0 {
		manifests = nil
	}
	for i, d := range top.Manifests {
		if d.Annotations[attestationKind] != "" || i >= maxImages || !readable(d) {
			continue
		}
		m, err := get(d, true)
		if err != nil {
			return nil, err
		}
		manifests = append(manifests, m)
	}
	var images []shared.Image
	for _, raw := range manifests {
		var m ocispec.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("no manifest: %w", err)
		}
		if m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != "application/vnd.docker.container.image.v1+json" || !readable(m.Config) {
			continue
		}
		config, err := get(m.Config, false)
		if err != nil {
			return nil, err
		}
		images = append(images, shared.Image{Config: config, Layers: m.Layers})
	}
	if len(images) == 0 {
		return nil, errNoCache
	}
	return shared.FromImages(images)
}

func readable(d ocispec.Descriptor) bool {
	return d.Digest.Validate() == nil && d.Digest.Algorithm() == digest.SHA256 && d.Size >= 0 && d.Size <= maxConfig
}
