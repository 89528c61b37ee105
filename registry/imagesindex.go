package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameMember is the image that a name means on one platform.
type nameMember struct {
	Config   digest.Digest
	Manifest *ocispec.Descriptor `json:",omitempty"`
	Platform ocispec.Platform
}

// has reports whether the name means an image, on whatever platform.
func (t nameTarget) has(id digest.Digest) bool {
	for _, m := range t.Images {
		if m.Config == id {
			return true
		}
	}
	return t.Config == id
}

// on returns what the name means on a platform, false if nothing.
func (t nameTarget) on(match platforms.MatchComparer) (nameMember, bool) {
	var best *nameMember
	for i, m := range t.Images {
		if match.Match(m.Platform) && (best == nil || match.Less(m.Platform, best.Platform)) {
			best = &t.Images[i]
		}
	}
	if best == nil {
		return nameMember{}, false
	}
	return *best, true
}

// PutIndex stores images, and points names (any form) at all of them together.
func (s *Images) PutIndex(ctx context.Context, x *Index, names ...string) error {
	if len(x.Images) == 0 {
		return fmt.Errorf("store index: %w: it has no images", ErrInvalid)
	}
	t := nameTarget{Index: x.Descriptor}
	for _, img := range x.Images {
		if err := s.Put(ctx, img); err != nil {
			return err
		}
		t.Images = append(t.Images, nameMember{Config: img.ID, Manifest: img.Manifest, Platform: img.Config.Platform})
	}
	if x.Raw != nil {
		if _, err := s.store.Blobs().Put(ctx, x.Raw); err != nil {
			return fmt.Errorf("store index %s: %w", x.Descriptor.Digest, err)
		}
	}
	own, ok := t.on(platforms.Default())
	if !ok {
		own = t.Images[0]
	}
	t.Config, t.Manifest = own.Config, own.Manifest
	return s.point(t, names)
}

// point makes names mean something else.
func (s *Images) point(t nameTarget, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var full []string
	for _, n := range names {
		ref, err := ParseReference(n)
		if err != nil {
			return err
		}
		full = append(full, ref.String())
	}
	return s.locked(func() error {
		all, err := s.readNames()
		if err != nil {
			return err
		}
		for _, n := range full {
			all[n] = t
		}
		return s.writeNames(all)
	})
}

// ResolveIndex finds all that a name (or an id) means: one image, or one for each
// platform. Errors are those of ResolveLocal.
func (s *Images) ResolveIndex(ref string) (*Index, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	t, ok := s.target(names, ref)
	if !ok || len(t.Images) == 0 {
		img, err := s.ResolveLocal(ref)
		if err != nil {
			return nil, err
		}
		return &Index{Images: []*Image{img}}, nil
	}
	x := &Index{}
	for _, m := range t.Images {
		img, err := s.load(m.Config, m.Manifest, names, false)
		if err != nil {
			return nil, err
		}
		x.Images = append(x.Images, img)
	}
	if t.Index != nil {
		if x.Raw, err = s.store.Blobs().ReadAll(t.Index.Digest); err == nil {
			x.Descriptor = t.Index // it can be made again otherwise
		}
	}
	return x, nil
}

// target is what a reference points at, if it is a name.
func (s *Images) target(names map[string]nameTarget, ref string) (nameTarget, bool) {
	r, err := ParseReference(ref)
	if err != nil {
		return nameTarget{}, false
	}
	return lookupName(names, r)
}

// ResolvePlatform finds an image as ResolveLocal does, for a platform. One that
// the store has for other platforms only is ErrNotFound.
func (s *Images) ResolvePlatform(ref string, platform ocispec.Platform) (*Image, error) {
	x, err := s.ResolveIndex(ref)
	if err != nil {
		return nil, err
	}
	match := platforms.Only(platforms.Normalize(platform))
	var best *Image
	var have []string
	for _, img := range x.Images {
		p := img.Config.Platform
		have = append(have, platforms.FormatAll(p))
		if match.Match(p) && (best == nil || match.Less(p, best.Config.Platform)) {
			best = img
		}
	}
	if best == nil {
		return nil, fmt.Errorf("image %q for %s: %w: the store has it for %s", ref, platforms.FormatAll(platform), ErrNotFound, strings.Join(have, ", "))
	}
	return best, nil
}

// pushedIndex records what an index was pushed as, if the name is that of these
// images here too.
func (s *Images) pushedIndex(ctx context.Context, x *Index, name string, desc ocispec.Descriptor, raw []byte) error {
	if _, err := s.store.Blobs().Put(ctx, raw); err != nil {
		return fmt.Errorf("store index %s: %w", desc.Digest, err)
	}
	return s.locked(func() error {
		names, err := s.readNames()
		if err != nil {
			return err
		}
		t, ok := names[name]
		if !ok || len(t.Images) != len(x.Images) {
			return nil
		}
		for _, img := range x.Images {
			if !t.has(img.ID) {
				return nil
			}
		}
		t.Index = &desc
		names[name] = t
		return s.writeNames(names)
	})
}

// blobs lists what must be kept for the name beside the images' records.
func (t nameTarget) blobs() []digest.Digest {
	var out []digest.Digest
	for _, d := range []*ocispec.Descriptor{t.Manifest, t.Index} {
		if d != nil {
			out = append(out, d.Digest)
		}
	}
	for _, m := range t.Images {
		if m.Manifest != nil {
			out = append(out, m.Manifest.Digest)
		}
	}
	return out
}

// removeRecords removes the records of images that have no name any more.
func (s *Images) removeRecords(names map[string]nameTarget, ids []digest.Digest) ([]digest.Digest, error) {
	var gone []digest.Digest
	var errs []error
	for _, id := range ids {
		if len(namesOf(names, id)) > 0 {
			continue
		}
		if err := s.removeRecord(id); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, id)
	}
	return gone, errors.Join(errs...)
}
