// Package mediatype tells what the parts of an image are by their media types, which
// OCI and Docker name differently.
package mediatype

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Accept lists the manifests and indexes that are understood, for a request's header.
const Accept = ocispec.MediaTypeImageManifest + ", " + string(types.DockerManifestSchema2) + ", " +
	ocispec.MediaTypeImageIndex + ", " + string(types.DockerManifestList)

// IsIndex reports whether the type is that of an index, or of Docker's manifest list.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == string(types.DockerManifestList)
}

// IsConfig reports whether the type is that of an image's configuration.
func IsConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == string(types.DockerConfigJSON)
}

// IsUntold reports whether a type tells nothing, as that of configurations which old
// registries and tools have sent.
func IsUntold(mediaType string) bool {
	return mediaType == "" || mediaType == "application/octet-stream"
}

// IsManifest reports whether the type is that of the manifest of an image (or of an
// artifact, which looks the same).
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == string(types.DockerManifestSchema2)
}

// layerTypes pairs OCI's names of layer forms with Docker's.
var layerTypes = [...][2]string{
	{ocispec.MediaTypeImageLayer, string(types.DockerUncompressedLayer)},
	{ocispec.MediaTypeImageLayerGzip, string(types.DockerLayer)},
	{ocispec.MediaTypeImageLayerZstd, "application/vnd.docker.image.rootfs.diff.tar.zstd"},
	{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", string(types.DockerForeignLayer)},
}

// Convert gives a layer's descriptor Docker's media type, or OCI's; one that has no
// other name is left as it is.
func Convert(desc ocispec.Descriptor, docker bool) ocispec.Descriptor {
	from, to := 1, 0
	if docker {
		from, to = 0, 1
	}
	for _, pair := range layerTypes {
		if desc.MediaType == pair[from] {
			desc.MediaType = pair[to]
		}
	}
	return desc
}

// IsForeign reports whether a layer is not to be pushed but left where its URLs say.
func IsForeign(desc ocispec.Descriptor) bool {
	return len(desc.URLs) > 0 && !types.MediaType(desc.MediaType).IsDistributable()
}

// Distributable gives a layer that was to be left where its URLs say the media type
// of any other.
func Distributable(desc ocispec.Descriptor) ocispec.Descriptor {
	if types.MediaType(desc.MediaType).IsDistributable() {
		return desc
	}
	desc.URLs = nil
	switch desc = Convert(desc, false); {
	case strings.HasSuffix(desc.MediaType, "+gzip"):
		desc.MediaType = ocispec.MediaTypeImageLayerGzip
	case strings.HasSuffix(desc.MediaType, "+zstd"):
		desc.MediaType = ocispec.MediaTypeImageLayerZstd
	default:
		desc.MediaType = ocispec.MediaTypeImageLayer
	}
	return desc
}
