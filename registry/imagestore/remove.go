package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/reference"
)

// Removed says what Remove did.
type Removed struct {
	Untagged []string
	// Deleted are the images whose records are gone: those without other names.
	Deleted []digest.Digest
}

// Remove removes a name, and with the last name the image's record. An image
// given by id that has several names is removed only with force. Layers stay
// until the garbage collector finds that nothing needs them.
func (s *Store) Remove(ref string, force bool) (*Removed, error) {
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

func (s *Store) remove(names map[string]nameTarget, ref string, force bool) (*Removed, error) {
	out := &Removed{}
	var id digest.Digest
	var ids []digest.Digest
	if r, err := reference.Parse(ref); err == nil && names[r.String()].Config != "" {
		t := names[r.String()]
		id, out.Untagged = t.Config, []string{r.String()}
		for _, m := range t.Images {
			ids = append(ids, m.Config)
		}
	} else if id, err = s.byPrefix(ref); err != nil {
		return nil, err
	} else if out.Untagged = namesOf(names, id); len(out.Untagged) > 1 && !force {
		return nil, fmt.Errorf("remove image %s: %w: it has the names %s; remove them one by one, or use force",
			id, errdef.ErrAmbiguous, strings.Join(out.Untagged, ", "))
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

func (s *Store) removeRecord(id digest.Digest) error {
	if err := os.Remove(s.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

// removeRecords removes the records of images that have no name any more.
func (s *Store) removeRecords(names map[string]nameTarget, ids []digest.Digest) ([]digest.Digest, error) {
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

// removeDangling deletes an image's record unless it has got a name. It reports
// whether it did.
func (s *Store) removeDangling(id digest.Digest) (bool, error) {
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

// removeUnused deletes an image and its names unless it was used after a time. It reports
// whether it did.
func (s *Store) removeUnused(id digest.Digest, last time.Time) (bool, error) {
	removed := false
	err := s.locked(func() error {
		fi, err := os.Lstat(s.recordPath(id))
		if errors.Is(err, fs.ErrNotExist) || err == nil && fi.ModTime().After(last) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove image %s: %w", id, err)
		}
		names, err := s.readNames()
		if err != nil {
			return err
		}
		for _, n := range namesOf(names, id) {
			delete(names, n)
		}
		if err := s.writeNames(names); err != nil {
			return err
		}
		removed = true
		return s.removeRecord(id)
	})
	return removed, err
}

// drop deletes a broken image with its names, or names that point nowhere.
func (s *Store) drop(id digest.Digest, lost ...string) error {
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
