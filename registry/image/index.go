package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/snapshot"
)

// Index is what one name means on several platforms.
type Index struct {
	Images []*Image
	// Annotations are the index's own, MemberAnnotations those of the entries, in
	// the order of Images (or nil).
	Annotations       map[string]string
	MemberAnnotations []map[string]string
	// DockerTypes makes a manifest list, Docker's form of an index.
	DockerTypes bool
	// Descriptor and Raw are the index as a registry has it, nil if it is none's.
	Descriptor *ocispec.Descriptor
	Raw        []byte
}

// Stack returns the layers of all images.
func (x *Index) Stack() snapshot.Stack {
	var all snapshot.Stack
	for _, img := range x.Images {
		all = append(all, img.Stack...)
	}
	return all
}

// Encode makes the index of manifests, one for each of the images. An index that is
// known, and has the same manifests, is kept bit for bit.
func (x *Index) Encode(members []ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	if x.Descriptor != nil && SameMembers(x.Raw, members) {
		return *x.Descriptor, x.Raw, nil
	}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: slices.Clone(members), Annotations: x.Annotations,
	}
	if x.DockerTypes {
		index.MediaType = string(types.DockerManifestList)
	}
	for i := range index.Manifests {
		if i < len(x.MemberAnnotations) {
			index.Manifests[i].Annotations = x.MemberAnnotations[i]
		}
	}
	raw, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("encode index: %w", err)
	}
	return ocispec.Descriptor{MediaType: index.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

// SameMembers reports whether an index has exactly these manifests, in this order.
func SameMembers(raw []byte, members []ocispec.Descriptor) bool {
	var have ocispec.Index
	if json.Unmarshal(raw, &have) != nil {
		return false
	}
	return slices.EqualFunc(have.Manifests, members, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
}

// Member describes the image's manifest, desc, as an entry of an index.
func (img *Image) Member(desc ocispec.Descriptor) ocispec.Descriptor {
	p := img.Config.Platform
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: &p}
}

// Platforms lists the platforms of an index. Errors match errdef.ErrInvalid.
func Platforms(raw []byte) ([]ocispec.Platform, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index: %w: %w", errdef.ErrInvalid, err)
	}
	var out []ocispec.Platform
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" && mediatype.IsManifest(m.MediaType) { // attestations are unknown's
			out = append(out, *m.Platform)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: the index names no platforms", errdef.ErrInvalid)
	}
	return out, nil
}

// Choose returns the best manifest of an index for a platform; of equals the first. One
// without a platform is the last resort. If there is none the error matches
// errdef.ErrNotFound.
func Choose(raw []byte, match platforms.MatchComparer) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("index: %w: %w", errdef.ErrInvalid, err)
	}
	var best *ocispec.Descriptor
	var have []string
	for i := range index.Manifests {
		m := &index.Manifests[i]
		if !mediatype.IsIndex(m.MediaType) && !mediatype.IsManifest(m.MediaType) {
			continue
		}
		switch {
		case m.Platform == nil:
			if best == nil {
				best = m
			}
			continue
		case m.Platform.OS != "unknown": // attestations
			have = append(have, platforms.FormatAll(*m.Platform))
		}
		if match.Match(*m.Platform) && (best == nil || best.Platform == nil || match.Less(*m.Platform, *best.Platform)) {
			best = m
		}
	}
	if best == nil {
		slices.Sort(have)
		return ocispec.Descriptor{}, &errdef.Error{Kind: errdef.ErrNotFound, Op: "choose platform",
			Err: fmt.Errorf("the image has only %s", strings.Join(slices.Compact(have), ", "))}
	}
	return *best, nil
}
