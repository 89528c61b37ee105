package image

import (
	"encoding/json"
	"errors"
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

// Look tells the platforms of an entry that does not tell its own: one of an image, which
// its configuration has, those of an index, or none of what is no image. It is called only
// for entries that matter.
type Look func(entry ocispec.Descriptor) ([]ocispec.Platform, error)

// entries reads the images and indexes of an index. Errors match errdef.ErrInvalid.
func entries(raw []byte) ([]ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index: %w: %w", errdef.ErrInvalid, err)
	}
	return slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool {
		return !mediatype.IsIndex(m.MediaType) && !mediatype.IsManifest(m.MediaType) || isUnknown(m.Platform)
	}), nil
}

// isUnknown reports whether a platform is that of attestations.
func isUnknown(p *ocispec.Platform) bool { return p != nil && p.OS == "unknown" }

// Platforms lists the platforms of an index, each once. Errors match errdef.ErrInvalid, or
// are those of look.
func Platforms(raw []byte, look Look) ([]ocispec.Platform, error) {
	all, err := entries(raw)
	if err != nil {
		return nil, err
	}
	var out []ocispec.Platform
	seen := map[string]bool{}
	for _, m := range all {
		ps := []ocispec.Platform{}
		if m.Platform != nil {
			ps = append(ps, *m.Platform)
		} else if ps, err = look(m); err != nil {
			return nil, err
		}
		for _, p := range ps {
			if name := platforms.FormatAll(p); !seen[name] {
				seen[name] = true
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: the index has no images", errdef.ErrInvalid)
	}
	return out, nil
}

// Choose returns the best manifest of an index for a platform; of equals the first. Only
// if none of those that tell their platform fits, the others are looked at. If there is
// none the error matches errdef.ErrNotFound.
func Choose(raw []byte, match platforms.MatchComparer, look Look) (ocispec.Descriptor, error) {
	all, err := entries(raw)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	c := choice{match: match}
	for _, m := range all {
		if m.Platform != nil {
			c.offer(m, *m.Platform)
		}
	}
	if c.best != nil {
		return *c.best, nil
	}
	for _, m := range all {
		if m.Platform != nil {
			continue
		}
		ps, err := look(m)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		for _, p := range ps {
			c.offer(m, p)
		}
	}
	if c.best != nil {
		return *c.best, nil
	}
	reason := "the index has no images"
	if len(c.have) > 0 {
		slices.Sort(c.have)
		reason = "the image has only " + strings.Join(slices.Compact(c.have), ", ")
	}
	return ocispec.Descriptor{}, &errdef.Error{Kind: errdef.ErrNotFound, Op: "choose platform", Err: errors.New(reason)}
}

// choice is the best entry for a platform so far.
type choice struct {
	match    platforms.MatchComparer
	best     *ocispec.Descriptor
	platform ocispec.Platform // of best
	have     []string         // the platforms of all
}

func (c *choice) offer(m ocispec.Descriptor, p ocispec.Platform) {
	c.have = append(c.have, platforms.FormatAll(p))
	if c.match.Match(p) && (c.best == nil || c.match.Less(p, c.platform)) {
		c.best, c.platform = &m, p
	}
}
