// Package image has what an image is made of: configuration, manifest, index, and
// Docker's records of the instructions that made it. It does no I/O; where images are
// kept is in package imagestore, where they are fetched and sent in package registry.
package image

import (
	"encoding/json"
	"errors"
	"fmt"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/snapshot"
)

// Config is Docker's image configuration (a superset of OCI's: Healthcheck,
// OnBuild, Shell).
type Config = dockerspec.DockerOCIImage

// Image is one image of one platform: configuration and layers.
type Image struct {
	// ID is the digest of RawConfig.
	ID        digest.Digest
	RawConfig []byte
	Config    Config
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

// New makes an image of a configuration, which it encodes, and the layers that the
// configuration names.
func New(cfg Config, stack snapshot.Stack) (*Image, error) {
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("encode image configuration: %w", err)
	}
	return &Image{ID: digest.FromBytes(raw), RawConfig: raw, Config: cfg, Stack: stack}, nil
}

// RootFS is the part of a configuration that names the layers.
func RootFS(stack snapshot.Stack) ocispec.RootFS {
	fs := ocispec.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, 0, len(stack))}
	for _, l := range stack {
		fs.DiffIDs = append(fs.DiffIDs, digest.Digest(l.DiffID))
	}
	return fs
}

// DecodeConfig reads an image configuration. Errors match errdef.ErrInvalid.
func DecodeConfig(raw []byte) (Config, error) {
	var cfg Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return cfg, fmt.Errorf("decode image configuration: %w: %w", errdef.ErrInvalid, err)
	}
	return cfg, nil
}

// ErrNoImage says that a manifest is that of something else.
var ErrNoImage = errors.New("not an image")

// ReadConfig reads the configuration of the image with a manifest. Where the manifest does
// not say what it is, the content decides. Errors match ErrNoImage, or errdef.ErrInvalid for
// an image that is malformed.
func ReadConfig(m ocispec.Manifest, raw []byte) (Config, error) {
	cfg, err := DecodeConfig(raw)
	fits := err == nil && len(cfg.RootFS.DiffIDs) == len(m.Layers)
	switch {
	case !mediatype.IsConfig(m.Config.MediaType) && !mediatype.IsUntold(m.Config.MediaType),
		mediatype.IsUntold(m.Config.MediaType) && !(fits && cfg.RootFS.Type == "layers"):
		return cfg, fmt.Errorf("%w but %q", ErrNoImage, m.Config.MediaType)
	case err != nil:
		return cfg, err
	case !fits:
		return cfg, fmt.Errorf("%w: %d layers, but the configuration has %d", errdef.ErrInvalid, len(m.Layers), len(cfg.RootFS.DiffIDs))
	}
	return cfg, nil
}

// WithMember returns the image with one more member in its configuration, that no standard
// knows: tools leave it as it is, and programs that run images pass it over.
func (img *Image) WithMember(name string, value any) (*Image, error) {
	member, err := json.Marshal(map[string]any{name: value})
	if err != nil {
		return nil, fmt.Errorf("encode image configuration: %w", err)
	}
	out := *img
	out.RawConfig = append(append(append([]byte{}, img.RawConfig[:len(img.RawConfig)-1]...), ','), member[1:]...)
	out.ID, out.Manifest, out.RawManifest = digest.FromBytes(out.RawConfig), nil, nil
	return &out, nil
}
