package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/reference"
	"layered.build/builder/snapshot"
)

// ResolveLocal finds an image by name, id or prefix of one, or by the id of a V1
// record. Errors match errdef.ErrNotFound or errdef.ErrAmbiguous.
func (s *Store) ResolveLocal(ref string) (*image.Image, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	if r, err := reference.Parse(ref); err == nil {
		if t, ok := lookupName(names, r); ok {
			return s.load(t.Config, t.Manifest, names, false)
		}
	}
	id, err := s.byPrefix(ref)
	if err == nil {
		return s.load(id, nil, names, true)
	}
	if !errors.Is(err, errdef.ErrNotFound) {
		return nil, err
	}
	rec, verr := s.V1(ref)
	if verr != nil {
		return nil, verr
	}
	img, err := image.New(rec.Image, rec.Stack)
	if err != nil {
		return nil, err
	}
	img.V1 = rec.ID
	return img, nil
}

// byPrefix finds the image whose id begins with a hexadecimal prefix.
func (s *Store) byPrefix(prefix string) (digest.Digest, error) {
	hex, err := s.prefixed(recordsDir, prefix)
	if err != nil {
		return "", err
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex), nil
}

// prefixed returns the name without suffix of the only file in sub that begins
// with a prefix.
func (s *Store) prefixed(sub, prefix string) (string, error) {
	hex := strings.TrimPrefix(prefix, "sha256:")
	if hex == "" || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("image %q: %w", prefix, errdef.ErrNotFound)
	}
	if len(hex) == 64 { // a whole id needs no list of all
		if _, err := os.Lstat(s.path(sub, hex+".json")); err == nil {
			return hex, nil
		}
	}
	entries, err := os.ReadDir(s.path(sub))
	if err != nil {
		return "", fmt.Errorf("image %q: %w", prefix, err)
	}
	i, _ := slices.BinarySearchFunc(entries, hex, func(e fs.DirEntry, h string) int { return strings.Compare(e.Name(), h) })
	if i == len(entries) || !strings.HasPrefix(entries[i].Name(), hex) {
		return "", fmt.Errorf("image %q: %w", prefix, errdef.ErrNotFound)
	}
	if i+1 < len(entries) && strings.HasPrefix(entries[i+1].Name(), hex) {
		return "", fmt.Errorf("image %q: %w: several ids begin so", prefix, errdef.ErrAmbiguous)
	}
	return strings.TrimSuffix(entries[i].Name(), ".json"), nil
}

// useEvery is how exactly the time of the last use is kept.
const useEvery = time.Hour

// use keeps the time of an image's last use: that of its record. A failure only makes it
// look older than it is.
func (s *Store) use(id digest.Digest) {
	now := time.Now()
	if fi, err := os.Lstat(s.recordPath(id)); err == nil && now.Sub(fi.ModTime()) > useEvery {
		_ = os.Chtimes(s.recordPath(id), now, now)
	}
}

// load reads an image with all of its metadata. With first, an image
// without a manifest gets the one that it was first known by: for images that are
// asked for by id. What a name means has the name's manifest, or none yet.
func (s *Store) load(id digest.Digest, manifest *ocispec.Descriptor, names map[string]nameTarget, first bool) (*image.Image, error) {
	rec, err := s.record(id)
	if err != nil {
		return nil, err
	}
	s.use(id)
	raw, err := s.layers.Blobs().ReadAll(id)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of image %s: %w", id, err)
	}
	img := &image.Image{ID: id, RawConfig: raw, Stack: s.Refresh(rec.Stack), V1: rec.V1, Names: namesOf(names, id)}
	if img.Config, err = image.DecodeConfig(raw); err != nil {
		return nil, err
	}
	if manifest == nil && first {
		manifest = rec.Manifest
	}
	if manifest == nil {
		return img, nil
	}
	// A manifest can be made again; an image without one is still complete.
	if img.RawManifest, err = s.layers.Blobs().ReadAll(manifest.Digest); err == nil {
		img.Manifest = manifest
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the manifest of image %s: %w", id, err)
	}
	return img, nil
}

// Refresh fills in what became known of layers since they were recorded.
func (s *Store) Refresh(stack snapshot.Stack) snapshot.Stack {
	out := slices.Clone(stack)
	for i, l := range out {
		if known, err := s.layers.Layer(l.ID); err == nil && known.DiffID == l.DiffID {
			out[i] = known
		}
	}
	return out
}

// ResolveIndex finds all that a name (or an id) means: one image, or one for each
// platform. Errors are those of ResolveLocal.
func (s *Store) ResolveIndex(ref string) (*image.Index, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	t, ok := target(names, ref)
	if !ok || len(t.Images) == 0 {
		img, err := s.ResolveLocal(ref)
		if err != nil {
			return nil, err
		}
		return &image.Index{Images: []*image.Image{img}}, nil
	}
	x := &image.Index{}
	for _, m := range t.Images {
		img, err := s.load(m.Config, m.Manifest, names, false)
		if err != nil {
			return nil, err
		}
		x.Images = append(x.Images, img)
	}
	if t.Index != nil {
		if x.Raw, err = s.layers.Blobs().ReadAll(t.Index.Digest); err == nil {
			x.Descriptor = t.Index // it can be made again otherwise
		}
	}
	return x, nil
}

// ResolvePlatform finds an image as ResolveLocal does, for a platform. One that
// the store has for other platforms only is errdef.ErrNotFound.
func (s *Store) ResolvePlatform(ref string, platform ocispec.Platform) (*image.Image, error) {
	x, err := s.ResolveIndex(ref)
	if err != nil {
		return nil, err
	}
	match := platforms.Only(platforms.Normalize(platform))
	var best *image.Image
	var have []string
	for _, img := range x.Images {
		p := img.Config.Platform
		have = append(have, platforms.FormatAll(p))
		if match.Match(p) && (best == nil || match.Less(p, best.Config.Platform)) {
			best = img
		}
	}
	if best == nil {
		return nil, fmt.Errorf("image %q for %s: %w: the store has it for %s", ref, platforms.FormatAll(platform), errdef.ErrNotFound, strings.Join(have, ", "))
	}
	return best, nil
}
