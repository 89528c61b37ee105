package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// Images are the images of one store: names, what they point at, and the V1
// records of the steps that made them. They are plain files below
// <root>/images; several processes may change them at once.
type Images struct {
	dir   string
	store *snapshot.Store

	mu       sync.Mutex
	names    map[string]nameTarget // guarded by mu: what is in namesRaw
	namesRaw []byte                // guarded by mu: names.json as it was read last
}

// ImageInfo is one line of docker images.
type ImageInfo struct {
	// ID is the digest of the configuration.
	ID digest.Digest
	// Names are normalised; none for a dangling image.
	Names    []string
	Manifest *ocispec.Descriptor `json:",omitempty"`
	Platform ocispec.Platform
	Created  time.Time
	// Size is the sum of the uncompressed layers, in bytes; layers that were
	// never fetched count nothing.
	Size int64
}

// Removed says what Remove did.
type Removed struct {
	Untagged []string
	// Deleted are the images whose records are gone: those without other names.
	Deleted []digest.Digest
}

// imageRecord is a file records/<config digest>.json.
type imageRecord struct {
	Version  int
	ID       digest.Digest
	Manifest *ocispec.Descriptor `json:",omitempty"`
	Platform ocispec.Platform
	Created  time.Time
	Stack    snapshot.Stack
	V1       string `json:",omitempty"`
}

const imagesVersion = 1

// OpenImages opens (or makes) the images of a store.
func OpenImages(store *snapshot.Store) (*Images, error) {
	s := &Images{dir: filepath.Join(store.Root(), "images"), store: store}
	for _, sub := range []string{"records", "v1", "origins", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open images: %w", err)
		}
	}
	if err := s.reclaim(); err != nil {
		return nil, fmt.Errorf("open images: %w", err)
	}
	return s, nil
}

// Put stores an image and points names (any form) at it. An image that lost its
// last name to this one stays, without a name.
func (s *Images) Put(ctx context.Context, img *Image, names ...string) error {
	full := make([]string, 0, len(names))
	for _, n := range names {
		ref, err := ParseReference(n)
		if err != nil {
			return err
		}
		full = append(full, ref.String())
	}
	for _, raw := range [][]byte{img.RawConfig, img.RawManifest} {
		if raw == nil {
			continue
		}
		if _, err := s.store.Blobs().Put(ctx, raw); err != nil {
			return fmt.Errorf("store image %s: %w", img.ID, err)
		}
	}
	return s.locked(func() error {
		rec := imageRecord{Version: imagesVersion, ID: img.ID, Manifest: img.Manifest, Platform: img.Config.Platform, Stack: img.Stack, V1: img.V1}
		if img.Config.Created != nil {
			rec.Created = *img.Config.Created
		}
		if old, err := s.record(img.ID); err == nil {
			rec.V1 = cmp.Or(rec.V1, old.V1)
			if rec.Manifest == nil {
				rec.Manifest = old.Manifest
			}
		}
		if err := s.write(s.recordPath(img.ID), rec, true); err != nil {
			return fmt.Errorf("store image %s: %w", img.ID, err)
		}
		return s.setNames(img.ID, img.Manifest, full)
	})
}

func (s *Images) setNames(id digest.Digest, manifest *ocispec.Descriptor, full []string) error {
	if len(full) == 0 {
		return nil
	}
	names, err := s.readNames()
	if err != nil {
		return err
	}
	changed := false
	for _, n := range full {
		t := nameTarget{Config: id, Manifest: manifest}
		changed = changed || !reflect.DeepEqual(names[n], t)
		names[n] = t
	}
	if !changed {
		return nil
	}
	return s.writeNames(names)
}

// ResolveLocal finds an image by name, id or prefix of one, or by the id of a V1
// record. Errors match ErrNotFound or ErrAmbiguous.
func (s *Images) ResolveLocal(ref string) (*Image, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	if r, err := ParseReference(ref); err == nil {
		if t, ok := lookupName(names, r); ok {
			return s.load(t.Config, t.Manifest, names, false)
		}
	}
	id, err := s.byPrefix(ref)
	if err == nil {
		return s.load(id, nil, names, true)
	}
	if !errors.Is(err, ErrNotFound) {
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

// lookupName also finds name@digest under a tag that has this manifest digest.
func lookupName(names map[string]nameTarget, r Reference) (nameTarget, bool) {
	if t, ok := names[r.String()]; ok {
		return t, true
	}
	if r.Digest == "" {
		return nameTarget{}, false
	}
	for n, t := range names {
		if other, err := ParseReference(n); err == nil && other.Repository() == r.Repository() && t.Manifest != nil && t.Manifest.Digest == r.Digest {
			return t, true
		}
	}
	return nameTarget{}, false
}

// byPrefix finds the image whose id begins with a hexadecimal prefix.
func (s *Images) byPrefix(prefix string) (digest.Digest, error) {
	hex, err := s.prefixed("records", prefix)
	if err != nil {
		return "", err
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex), nil
}

// prefixed returns the name without suffix of the only file in sub that begins
// with a prefix.
func (s *Images) prefixed(sub, prefix string) (string, error) {
	hex := strings.TrimPrefix(prefix, "sha256:")
	if hex == "" || len(hex) > 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("image %q: %w", prefix, ErrNotFound)
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, sub))
	if err != nil {
		return "", fmt.Errorf("image %q: %w", prefix, err)
	}
	i, _ := slices.BinarySearchFunc(entries, hex, func(e fs.DirEntry, h string) int { return strings.Compare(e.Name(), h) })
	if i == len(entries) || !strings.HasPrefix(entries[i].Name(), hex) {
		return "", fmt.Errorf("image %q: %w", prefix, ErrNotFound)
	}
	if i+1 < len(entries) && strings.HasPrefix(entries[i+1].Name(), hex) {
		return "", fmt.Errorf("image %q: %w: several ids begin so", prefix, ErrAmbiguous)
	}
	return strings.TrimSuffix(entries[i].Name(), ".json"), nil
}

// load reads an image with all of its metadata. With first, an image
// without a manifest gets the one that it was first known by: for images that are
// asked for by id. What a name means has the name's manifest, or none yet.
func (s *Images) load(id digest.Digest, manifest *ocispec.Descriptor, names map[string]nameTarget, first bool) (*Image, error) {
	rec, err := s.record(id)
	if err != nil {
		return nil, err
	}
	raw, err := s.store.Blobs().ReadAll(id)
	if err != nil {
		return nil, fmt.Errorf("read the configuration of image %s: %w", id, err)
	}
	img := &Image{ID: id, RawConfig: raw, Stack: s.refresh(rec.Stack), V1: rec.V1, Names: namesOf(names, id)}
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
	if img.RawManifest, err = s.store.Blobs().ReadAll(manifest.Digest); err == nil {
		img.Manifest = manifest
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the manifest of image %s: %w", id, err)
	}
	return img, nil
}

// refresh fills in what became known of layers since they were recorded.
func (s *Images) refresh(stack snapshot.Stack) snapshot.Stack {
	out := slices.Clone(stack)
	for i, l := range out {
		if known, err := s.store.Layer(l.ID); err == nil && known.DiffID == l.DiffID {
			out[i] = known
		}
	}
	return out
}

// List returns all images, the newest first; dangling ones too.
func (s *Images) List() ([]ImageInfo, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	recs, err := s.records()
	if err != nil {
		return nil, err
	}
	infos := make([]ImageInfo, 0, len(recs))
	for _, rec := range recs {
		info := ImageInfo{ID: rec.ID, Names: namesOf(names, rec.ID), Manifest: rec.Manifest, Platform: rec.Platform, Created: rec.Created}
		for _, l := range s.refresh(rec.Stack) {
			info.Size += l.Size
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b ImageInfo) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(string(a.ID), string(b.ID)))
	})
	return infos, nil
}

// Tag points another name at an image (or at the result of a step).
func (s *Images) Tag(ctx context.Context, source, name string) error {
	x, err := s.ResolveIndex(source)
	if err != nil {
		return err
	}
	ref, err := ParseReference(name)
	if err != nil {
		return err
	}
	if ref.Digest != "" {
		return fmt.Errorf("tag %q: %w: a digest cannot be given as a name", name, ErrInvalid)
	}
	if len(x.Images) > 1 {
		return s.PutIndex(ctx, x, name)
	}
	return s.Put(ctx, x.Images[0], name)
}

// Remove removes a name, and with the last name the image's record. An image
// given by id that has several names is removed only with force. Layers stay
// until the garbage collector finds that nothing needs them.
func (s *Images) Remove(ref string, force bool) (*Removed, error) {
	var out *Removed
	err := s.locked(func() error {
		names, err := s.readNames()
		if err != nil {
			return err
		}
		out, err = s.remove(names, ref, force)
		return err
	})
	return out, err
}

func (s *Images) remove(names map[string]nameTarget, ref string, force bool) (*Removed, error) {
	out := &Removed{}
	var id digest.Digest
	var ids []digest.Digest
	if r, err := ParseReference(ref); err == nil && names[r.String()].Config != "" {
		t := names[r.String()]
		id, out.Untagged = t.Config, []string{r.String()}
		for _, m := range t.Images {
			ids = append(ids, m.Config)
		}
	} else if id, err = s.byPrefix(ref); err != nil {
		return nil, err
	} else if out.Untagged = namesOf(names, id); len(out.Untagged) > 1 && !force {
		return nil, fmt.Errorf("remove image %s: %w: it has the names %s; remove them one by one, or use force",
			id, ErrAmbiguous, strings.Join(out.Untagged, ", "))
	}
	for _, n := range out.Untagged {
		delete(names, n)
	}
	if err := s.writeNames(names); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		ids = append(ids, id)
	}
	var err error
	out.Deleted, err = s.removeRecords(names, ids)
	return out, err
}

func (s *Images) removeRecord(id digest.Digest) error {
	if err := os.Remove(s.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

// pushed records which manifest a pushed image has, if the image is one of these.
func (s *Images) pushed(ctx context.Context, id digest.Digest, name string, desc ocispec.Descriptor, raw []byte) error {
	if _, err := s.record(id); errors.Is(err, ErrNotFound) {
		return nil
	}
	if _, err := s.store.Blobs().Put(ctx, raw); err != nil {
		return fmt.Errorf("store manifest %s: %w", desc.Digest, err)
	}
	return s.locked(func() error {
		rec, err := s.record(id)
		if err != nil {
			return err
		}
		if rec.Manifest == nil {
			rec.Manifest = &desc
			if err := s.write(s.recordPath(id), rec, true); err != nil {
				return fmt.Errorf("store image %s: %w", id, err)
			}
		}
		names, err := s.readNames()
		if err != nil {
			return err
		}
		if t, ok := names[name]; !ok || t.Config != id || len(t.Images) > 0 {
			return nil
		}
		return s.setNames(id, &desc, []string{name})
	})
}
