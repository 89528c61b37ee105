package imagestore

import (
	"errors"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/snapshot"
)

// holding is what one image keeps alive.
type holding struct {
	ID       digest.Digest
	Names    []string // none: dangling
	Created  time.Time
	LastUsed time.Time // within useEvery
	Stack    snapshot.Stack
	Blobs    []digest.Digest // configuration and manifests
	V1       string          // record of the last instruction
	// Err says that the record is damaged.
	Err error
}

// holdings returns all images. Unlike List it looks at no layer.
func (s *Store) holdings() ([]holding, error) {
	names, err := s.readNames()
	if err != nil {
		return nil, err
	}
	ids, err := s.ids(recordsDir)
	if err != nil {
		return nil, err
	}
	var out []holding
	for _, hex := range ids {
		id := digest.NewDigestFromEncoded(digest.SHA256, hex)
		rec, err := s.record(id)
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		h := holding{ID: id, Names: namesOf(names, id), Blobs: []digest.Digest{id}, Err: err}
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
