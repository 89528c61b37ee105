package registry

import (
	image "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// Resolved is one platform's image in a registry: all of its metadata, none of
// its layers.
type Resolved struct {
	// Ref is the normalised reference (docker.io/library/alpine:3.20).
	Ref string
	// Descriptor names the manifest of the chosen platform.
	Descriptor ocispec.Descriptor
	// Index names the multi-platform index that it was chosen from, if any.
	Index *ocispec.Descriptor
	// Platform is what the image's configuration says.
	Platform ocispec.Platform
	// RawManifest and RawConfig are the bytes that the digests are of.
	RawManifest, RawConfig []byte
	Config                 ImageConfig
	// Layers are the compressed layers, lowest first.
	Layers []ocispec.Descriptor
}

// Digest returns the digest of the platform's manifest.
func (r *Resolved) Digest() digest.Digest { return r.Descriptor.Digest }

// ImageConfig is Docker's image configuration (a superset of OCI's: Healthcheck,
// OnBuild, Shell).
type ImageConfig = image.DockerOCIImage

// Image is one image of one platform: configuration and layers.
type Image struct {
	// ID is the digest of RawConfig.
	ID        digest.Digest
	RawConfig []byte
	Config    ImageConfig
	// Stack is the image's file system.
	Stack snapshot.Stack
	// Manifest and RawManifest are known for images that were pulled, pushed, or
	// loaded from an OCI layout.
	Manifest    *ocispec.Descriptor
	RawManifest []byte
	// V1 is the id of the V1 record of the last instruction, "" if there is none.
	V1 string
	// Names are the normalised names that point at this image.
	Names []string
}
