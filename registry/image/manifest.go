package image

import (
	_ "crypto/sha512" // Verify knows such digests
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/mediatype"
)

// Form is what an image's manifest looks like.
type Form struct {
	Compression compression.Config
	// DockerTypes makes Docker's media types instead of OCI's.
	DockerTypes bool
	// Foreign keeps base layers that must not be distributed where they are, and
	// says so; otherwise they are treated like all others.
	Foreign     bool
	Annotations map[string]string
}

// NewManifest makes the manifest of an image from its parts. Of the configuration's
// descriptor only digest and size count.
func NewManifest(config ocispec.Descriptor, layers []ocispec.Descriptor, form Form) (ocispec.Descriptor, []byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config.Digest, Size: config.Size},
		Layers:    []ocispec.Descriptor{}, Annotations: form.Annotations,
	}
	if form.DockerTypes {
		m.MediaType, m.Config.MediaType = string(types.DockerManifestSchema2), string(types.DockerConfigJSON)
	}
	for _, l := range layers {
		if !form.Foreign {
			l = mediatype.Distributable(l)
		}
		l = mediatype.Convert(l, form.DockerTypes)
		l.Annotations, l.Data = compression.TOC(l.Annotations), nil
		if form.DockerTypes {
			l.Annotations = nil
		}
		m.Layers = append(m.Layers, l)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("encode manifest: %w", err)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

// KeptLayers returns the blobs that the image's manifest names, nil if it has no
// manifest. It is an error if the manifest is of another image.
func (img *Image) KeptLayers() ([]ocispec.Descriptor, error) {
	if img.Manifest == nil || img.RawManifest == nil {
		return nil, nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(img.RawManifest, &m); err != nil || len(m.Layers) != len(img.Stack) || m.Config.Digest != img.ID {
		return nil, fmt.Errorf("manifest %s: %w: it does not belong to image %s", img.Manifest.Digest, errdef.ErrInvalid, img.ID)
	}
	return append([]ocispec.Descriptor{}, m.Layers...), nil
}

// Verify compares bytes with what is known of them: size and digest, unless they are
// zero. Errors match errdef.ErrBadDigest, or errdef.ErrInvalid for a malformed digest.
func Verify(raw []byte, want ocispec.Descriptor) error {
	if want.Size > 0 && want.Size != int64(len(raw)) {
		return fmt.Errorf("%w: %d bytes instead of %d", errdef.ErrBadDigest, len(raw), want.Size)
	}
	if want.Digest == "" {
		return nil
	}
	if err := want.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", want.Digest, errdef.ErrInvalid, err)
	}
	if got := want.Digest.Algorithm().FromBytes(raw); got != want.Digest {
		return fmt.Errorf("%w: got %s", errdef.ErrBadDigest, got)
	}
	return nil
}

// Describe completes the descriptor of a manifest or index. What the document says of
// its type counts more than the type that it was served with. Errors match
// errdef.ErrInvalid.
func Describe(raw []byte, served string, want ocispec.Descriptor) (ocispec.Descriptor, error) {
	var doc struct {
		SchemaVersion int
		MediaType     string
		Manifests     json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return want, fmt.Errorf("manifest: %w: %w", errdef.ErrInvalid, err)
	}
	if doc.SchemaVersion == 1 {
		return want, fmt.Errorf("manifest: %w: Docker's manifest schema 1 is not supported; push the image again with a newer docker", errdef.ErrInvalid)
	}
	want.MediaType = doc.MediaType
	if want.MediaType == "" {
		want.MediaType = served
	}
	if !mediatype.IsManifest(want.MediaType) && !mediatype.IsIndex(want.MediaType) {
		switch {
		case doc.MediaType != "":
			return want, fmt.Errorf("manifest: %w: media type %q is not supported", errdef.ErrInvalid, doc.MediaType)
		case doc.Manifests != nil:
			want.MediaType = ocispec.MediaTypeImageIndex
		default:
			want.MediaType = ocispec.MediaTypeImageManifest
		}
	}
	want.Size = int64(len(raw))
	if want.Digest == "" {
		want.Digest = digest.FromBytes(raw)
	}
	return want, nil
}
