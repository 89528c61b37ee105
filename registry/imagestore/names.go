package imagestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/reference"
)

// nameTarget is what a name points at.
type nameTarget struct {
	Config   digest.Digest
	Manifest *ocispec.Descriptor `json:",omitempty"`
	// Images are set for a name that means an image on each of several platforms;
	// Config and Manifest are then those for this machine (or the first).
	Images []nameMember `json:",omitempty"`
	// Index is what these were pulled or pushed as together.
	Index *ocispec.Descriptor `json:",omitempty"`
}

// nameMember is the image that a name means on one platform.
type nameMember struct {
	Config   digest.Digest
	Manifest *ocispec.Descriptor `json:",omitempty"`
	Platform ocispec.Platform
}

// namesFile is the file names.json.
type namesFile struct {
	Version int
	Names   map[string]nameTarget
}

// namesOf returns the names that mean an image.
func namesOf(names map[string]nameTarget, id digest.Digest) []string {
	var out []string
	for n, t := range names {
		if t.has(id) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// readNames returns the names, which the caller may change (but not what is in them).
// A build asks several times: only a file that has changed is decoded.
func (s *Store) readNames() (map[string]nameTarget, error) {
	path := s.path(namesName)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read image names: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil || !bytes.Equal(data, s.namesRaw) {
		names, err := decodeNames(path, data)
		if err != nil {
			return nil, err
		}
		s.names, s.namesRaw = names, data
	}
	return maps.Clone(s.names), nil
}

func decodeNames(path string, data []byte) (map[string]nameTarget, error) {
	if data == nil { // there is no file
		return map[string]nameTarget{}, nil
	}
	var f namesFile
	if err := json.Unmarshal(data, &f); err != nil {
		err = fmt.Errorf("%s: %w: %w", path, errdef.ErrInvalid, err)
		return nil, fmt.Errorf("read image names: %w (`builder store check --repair` puts the file aside)", err)
	}
	if f.Version > formatVersion {
		return nil, fmt.Errorf("read image names: format version %d is newer than this program", f.Version)
	}
	if f.Names == nil {
		f.Names = map[string]nameTarget{}
	}
	return f.Names, nil
}

// checkNames says what is wrong with the file of names; errdef.ErrInvalid if it is damaged.
func (s *Store) checkNames() error {
	_, err := s.readNames()
	return err
}

// dropNames puts the file of names aside, as names.json.damaged. The images stay,
// without names.
func (s *Store) dropNames() error {
	return s.locked(func() error {
		path := s.path(namesName)
		return os.Rename(path, path+".damaged")
	})
}

func (s *Store) writeNames(names map[string]nameTarget) error {
	if err := s.write(s.path(namesName), namesFile{Version: formatVersion, Names: names}, true); err != nil {
		return fmt.Errorf("write image names: %w", err)
	}
	return nil
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

// point makes names mean something else.
func (s *Store) point(t nameTarget, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var full []string
	for _, n := range names {
		ref, err := reference.Parse(n)
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

// target is what a reference points at, if it is a name.
func target(names map[string]nameTarget, ref string) (nameTarget, bool) {
	r, err := reference.Parse(ref)
	if err != nil {
		return nameTarget{}, false
	}
	return lookupName(names, r)
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

// setNames makes names mean one image.
func (s *Store) setNames(id digest.Digest, manifest *ocispec.Descriptor, full []string) error {
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

// lookupName also finds name@digest under a tag that has this manifest digest.
func lookupName(names map[string]nameTarget, r reference.Reference) (nameTarget, bool) {
	if t, ok := names[r.String()]; ok {
		return t, true
	}
	if r.Digest == "" {
		return nameTarget{}, false
	}
	for n, t := range names {
		if other, err := reference.Parse(n); err == nil && other.Repository() == r.Repository() && t.Manifest != nil && t.Manifest.Digest == r.Digest {
			return t, true
		}
	}
	return nameTarget{}, false
}

// lostNames returns the names that point at an image that is not here.
func (s *Store) lostNames() ([]string, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	var lost []string
	for n, t := range names {
		ids := []digest.Digest{t.Config}
		for _, m := range t.Images {
			ids = append(ids, m.Config)
		}
		if slices.ContainsFunc(ids, s.isLost) {
			lost = append(lost, n)
		}
	}
	return lost, nil
}

func (s *Store) isLost(id digest.Digest) bool {
	_, err := os.Lstat(s.recordPath(id))
	return errors.Is(err, fs.ErrNotExist)
}
