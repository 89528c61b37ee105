package oci

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared"
)

const (
	// artifactType is that of the manifest.
	artifactType = "application/vnd.builder.cache.v1"
	// buildkitConfig is what BuildKit's caches are known by.
	buildkitConfig = "application/vnd.buildkit.cacheconfig.v0"
	// maxEmbedded is the largest index that the manifest holds itself, which saves a
	// request: manifests may have 4 MB.
	maxEmbedded = 256 << 10
	// maxIndex is the largest index that is read.
	maxIndex = 64 << 20
)

// form is what manifests look like.
type form struct {
	// artifact makes an artifact without a configuration instead of an image.
	artifact bool
	// docker makes Docker's media types.
	docker bool
}

// imageConfig is that of an image that nobody can run. BuildKit finds no cache in it.
var imageConfig = []byte(`{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}`)

// encoded are a manifest and the small blobs that it needs.
type encoded struct {
	desc          ocispec.Descriptor
	raw           []byte
	index, config ocispec.Descriptor
	configRaw     []byte
}

// encode makes the manifest of an index.
func (f form) encode(index []byte, blobs []shared.Blob) (encoded, error) {
	e := encoded{
		index:     ocispec.Descriptor{MediaType: shared.MediaType, Digest: digest.FromBytes(index), Size: int64(len(index))},
		configRaw: imageConfig,
	}
	configType, manifestType := ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageManifest
	if f.docker {
		configType, manifestType = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.distribution.manifest.v2+json"
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifestType}
	if !f.docker {
		m.ArtifactType = artifactType
	}
	if f.artifact {
		configType, e.configRaw = ocispec.MediaTypeEmptyJSON, []byte("{}")
	}
	e.config = ocispec.Descriptor{MediaType: configType, Digest: digest.FromBytes(e.configRaw), Size: int64(len(e.configRaw))}
	m.Config = e.config
	first := e.index
	if len(index) <= maxEmbedded {
		first.Data = index
	}
	m.Layers = append(m.Layers, first)
	for _, b := range blobs {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size})
	}
	var err error
	if e.raw, err = json.Marshal(m); err != nil {
		return e, fmt.Errorf("encode manifest: %w", err)
	}
	e.desc = ocispec.Descriptor{MediaType: manifestType, Digest: digest.FromBytes(e.raw), Size: int64(len(e.raw))}
	return e, nil
}

// indexOf finds the index that a manifest is of. Errors say what it is instead.
func indexOf(raw []byte) (ocispec.Descriptor, error) {
	var m struct {
		Config            ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("no manifest: %w", err)
	}
	if len(m.Layers) > 0 && m.Layers[0].MediaType == shared.MediaType {
		return m.Layers[0], m.Layers[0].Digest.Validate()
	}
	for _, d := range append(append([]ocispec.Descriptor{m.Config}, m.Layers...), m.Manifests...) {
		if d.MediaType == buildkitConfig {
			return d, errBuildKit
		}
	}
	return ocispec.Descriptor{}, errNoCache
}

// What somebody else's manifest is.
var (
	errBuildKit = shared.PlaceError("it is a cache of BuildKit's, which only BuildKit can read: name another place for this program's with --cache-to")
	errNoCache  = shared.PlaceError("it is an image, not a cache: name what --cache-to has written")
	errImage    = shared.PlaceError("it is an image: name another place for the cache, or use --cache-to type=inline")
)

var unfit = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^A-Za-z0-9._-]`) })

// tagOf is the tag of a scope beside that of the place. Different scopes have different
// tags.
func tagOf(place, scope string) string {
	if scope == "" {
		return place
	}
	name := unfit().ReplaceAllString(scope, "-")
	if name != scope || len(place)+len(name) > 120 {
		name = name[:min(len(name), 40)] + "-" + digest.FromString(scope).Encoded()[:10]
	}
	return strings.TrimLeft(place[:min(len(place), 60)]+"-"+name, ".-")
}
