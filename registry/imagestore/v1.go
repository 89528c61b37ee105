package imagestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// PutV1 stores the record of a step. One that is there already is not even made: its name
// is a digest of what it says.
func (s *Store) PutV1(rec image.V1Maker) error {
	if fi, err := os.Lstat(s.v1Path(rec.ID)); err == nil && fi.Size() > 0 {
		return nil
	}
	return s.locked(func() error {
		data, err := rec.Encode()
		if err == nil {
			err = s.replace(s.v1Path(rec.ID), data, false)
		}
		if err != nil {
			return fmt.Errorf("store v1 record %s: %w", rec.ID, err)
		}
		return nil
	})
}

func (s *Store) v1Path(id string) string { return s.path(v1Dir, id+".json") }

// V1 finds a V1 record by id or a prefix of one. Errors match errdef.ErrNotFound
// or errdef.ErrAmbiguous.
func (s *Store) V1(id string) (*image.V1Record, error) {
	full, err := s.prefixed(v1Dir, id)
	if err != nil {
		return nil, err
	}
	var rec image.V1Record
	if err := readJSON(s.v1Path(full), &rec); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errdef.ErrNotFound
		}
		return nil, fmt.Errorf("read v1 record %s: %w", full, err)
	}
	rec.Stack = s.Refresh(rec.Stack)
	return &rec, nil
}

// V1Chain returns the records from a V1 id down to the first instruction, the
// newest first. It ends early where a record is missing.
func (s *Store) V1Chain(id string) ([]image.V1Record, error) {
	var chain []image.V1Record
	for id != "" {
		rec, err := s.V1(id)
		if errors.Is(err, errdef.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, *rec)
		id = rec.Parent
	}
	return chain, nil
}

// line returns the ids of V1Chain. Of each record only the beginning is read: those of a
// long line are large.
func (s *Store) line(id string) ([]string, error) {
	var ids []string
	for id != "" {
		parent, err := s.parent(id)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read v1 record %s: %w", id, err)
		}
		ids = append(ids, id)
		id = parent
	}
	return ids, nil
}

// parent reads the parent of a record, which stands behind the id that it begins with; ""
// if it has none.
func (s *Store) parent(id string) (string, error) {
	f, err := os.Open(s.v1Path(id))
	if err != nil {
		return "", err
	}
	defer f.Close()
	want := []json.Token{json.Delim('{'), "id", id}
	dec := json.NewDecoder(f)
	for len(want) > 0 {
		t, err := dec.Token()
		if err != nil || t != want[0] {
			return "", fmt.Errorf("%w: it does not begin with its id", errdef.ErrInvalid)
		}
		want = want[1:]
	}
	if t, err := dec.Token(); err != nil || t != "parent" {
		return "", nil
	}
	t, err := dec.Token()
	parent, ok := t.(string)
	if err != nil || !ok {
		return "", fmt.Errorf("%w: its parent is no id", errdef.ErrInvalid)
	}
	return parent, nil
}

// step is a V1 record: an image that one instruction made.
type step struct {
	ID, Parent string
	Stack      snapshot.Stack
	// Err says that the record is damaged.
	Err error
}

// steps returns all V1 records.
func (s *Store) steps() ([]step, error) {
	ids, err := s.ids(v1Dir)
	if err != nil {
		return nil, err
	}
	out := make([]step, 0, len(ids))
	for _, id := range ids {
		var rec struct {
			Parent string         `json:"parent"`
			Stack  snapshot.Stack `json:"stack"`
		}
		err := readJSON(s.v1Path(id), &rec)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		out = append(out, step{ID: id, Parent: rec.Parent, Stack: rec.Stack, Err: err})
	}
	return out, nil
}

// removeStep deletes a V1 record.
func (s *Store) removeStep(id string) error {
	if len(id) != 64 {
		return fmt.Errorf("step %q: %w", id, errdef.ErrInvalid)
	}
	if err := os.Remove(s.v1Path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove step %s: %w", id, err)
	}
	return nil
}
