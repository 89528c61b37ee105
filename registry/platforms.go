package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/remote"
)

// metadata reads what an index leads to.
type metadata interface {
	// Manifest returns a manifest or an index.
	Manifest(ctx context.Context, want ocispec.Descriptor) ([]byte, ocispec.Descriptor, error)
	// small returns a configuration.
	small(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
}

// Look tells the platforms of entries of an index of src that do not tell their own, for
// package image.
func Look(ctx context.Context, src Source) image.Look { return look(ctx, sourceMetadata{src}) }

func look(ctx context.Context, from metadata) image.Look {
	return func(entry ocispec.Descriptor) ([]ocispec.Platform, error) { return platformsOf(ctx, from, entry, 0) }
}

// platformsOf lists the platforms of a manifest or an index. What is not there has none:
// who copies an index may leave out some of it.
func platformsOf(ctx context.Context, from metadata, entry ocispec.Descriptor, depth int) ([]ocispec.Platform, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: indexes are nested too deeply", ErrInvalid)
	}
	raw, desc, err := from.Manifest(ctx, entry)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if mediatype.IsIndex(desc.MediaType) {
		deeper := func(entry ocispec.Descriptor) ([]ocispec.Platform, error) {
			return platformsOf(ctx, from, entry, depth+1)
		}
		return image.Platforms(raw, deeper)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", desc.Digest, ErrInvalid, err)
	}
	if !mediatype.IsConfig(m.Config.MediaType) && !mediatype.IsUntold(m.Config.MediaType) {
		return nil, nil
	}
	config, err := from.small(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	cfg, err := image.ReadConfig(m, config)
	if errors.Is(err, image.ErrNoImage) || err == nil && cfg.OS == "unknown" {
		return nil, nil
	}
	return []ocispec.Platform{cfg.Platform}, err
}

// sourceMetadata is that of a Source.
type sourceMetadata struct{ Source }

func (s sourceMetadata) small(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	r, err := s.Open(ctx, desc, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := remote.ReadLimited(r, maxConfig)
	if err == nil {
		err = image.Verify(raw, desc)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", desc.Digest, err)
	}
	return raw, nil
}
