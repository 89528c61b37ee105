package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// Holding is what one image keeps alive.
type Holding struct {
	ID       digest.Digest
	Names    []string // none: dangling
	Created  time.Time
	LastUsed time.Time // when the record was written
	Stack    snapshot.Stack
	Blobs    []digest.Digest // configuration and manifests
	V1       string          // record of the last instruction
	// Err says that the record is damaged.
	Err error
}

// Holdings returns all images. Unlike List it looks at no layer.
func (s *Images) Holdings() ([]Holding, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	ids, err := s.ids("records")
	if err != nil {
		return nil, err
	}
	var out []Holding
	for _, hex := range ids {
		id := digest.NewDigestFromEncoded(digest.SHA256, hex)
		rec, err := s.record(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		h := Holding{ID: id, Names: namesOf(names, id), Blobs: []digest.Digest{id}, Err: err}
		if fi, err := os.Lstat(s.recordPath(id)); err == nil {
			h.LastUsed = fi.ModTime()
		}
		if rec != nil {
			h.Created, h.Stack, h.V1 = rec.Created, rec.Stack, rec.V1
			if rec.Manifest != nil {
				h.Blobs = append(h.Blobs, rec.Manifest.Digest)
			}
		}
		for _, n := range h.Names {
			h.Blobs = append(h.Blobs, names[n].blobs()...)
		}
		out = append(out, h)
	}
	return out, nil
}

// LostNames returns the names that point at an image that is not here.
func (s *Images) LostNames() ([]string, error) {
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

func (s *Images) isLost(id digest.Digest) bool {
	_, err := os.Lstat(s.recordPath(id))
	return errors.Is(err, fs.ErrNotExist)
}

// Step is a V1 record: an image that one instruction made.
type Step struct {
	ID, Parent string
	Stack      snapshot.Stack
	// Err says that the record is damaged.
	Err error
}

// Steps returns all V1 records.
func (s *Images) Steps() ([]Step, error) {
	ids, err := s.ids("v1")
	if err != nil {
		return nil, err
	}
	out := make([]Step, 0, len(ids))
	for _, id := range ids {
		var rec struct {
			Parent string         `json:"parent"`
			Stack  snapshot.Stack `json:"stack"`
		}
		err := readJSON(s.v1Path(id), &rec)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		out = append(out, Step{ID: id, Parent: rec.Parent, Stack: rec.Stack, Err: err})
	}
	return out, nil
}

// RemoveStep deletes a V1 record.
func (s *Images) RemoveStep(id string) error {
	if len(id) != 64 {
		return fmt.Errorf("step %q: %w", id, ErrInvalid)
	}
	if err := os.Remove(s.v1Path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove step %s: %w", id, err)
	}
	return nil
}

// RemoveDangling deletes an image's record unless it has got a name. It reports
// whether it did.
func (s *Images) RemoveDangling(id digest.Digest) (bool, error) {
	removed := false
	err := s.locked(func() error {
		names, err := s.readNames()
		if err != nil || len(namesOf(names, id)) > 0 {
			return err
		}
		removed = true
		return s.removeRecord(id)
	})
	return removed, err
}

// Drop deletes a broken image with its names, or names that point nowhere.
func (s *Images) Drop(id digest.Digest, lost ...string) error {
	return s.locked(func() error {
		names, err := s.readNames()
		if err != nil {
			return err
		}
		for _, n := range append(namesOf(names, id), lost...) {
			delete(names, n)
		}
		if err := s.writeNames(names); err != nil || id == "" {
			return err
		}
		return s.removeRecord(id)
	})
}

// Fetchable reports whether a registry is known to have a layer.
func (s *Images) Fetchable(diff snapshot.DiffID) bool {
	o, err := s.origin(diff)
	return err == nil && o != nil && len(o.Repositories) > 0
}
