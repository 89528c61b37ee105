package imagestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// The files of the folder; docs/FORMAT.md explains them.
const (
	folder     = "images" // of the store
	namesName  = "names.json"
	lockName   = "lock"
	recordsDir = "records"
	v1Dir      = "v1"
	originsDir = "origins"
	tmpDir     = "tmp"

	formatVersion = 1
)

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

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) recordPath(id digest.Digest) string {
	return s.path(recordsDir, id.Encoded()+".json")
}

func (s *Store) record(id digest.Digest) (*imageRecord, error) {
	var rec imageRecord
	err := readJSON(s.recordPath(id), &rec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image %s: %w", id, errdef.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", id, err)
	}
	if rec.ID != id {
		return nil, fmt.Errorf("read image %s: %w: the record is of %q", id, errdef.ErrInvalid, rec.ID)
	}
	return &rec, nil
}

// records returns all image records; one that another process removes meanwhile
// is left out.
func (s *Store) records() ([]*imageRecord, error) {
	ids, err := s.ids(recordsDir)
	if err != nil {
		return nil, err
	}
	var recs []*imageRecord
	for _, hex := range ids {
		rec, err := s.record(digest.NewDigestFromEncoded(digest.SHA256, hex))
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// ids lists the files of a folder whose names are digests.
func (s *Store) ids(sub string) ([]string, error) {
	entries, err := os.ReadDir(s.path(sub))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []string
	for _, e := range entries {
		if hex, ok := strings.CutSuffix(e.Name(), ".json"); ok && len(hex) == 64 {
			out = append(out, hex)
		}
	}
	return out, nil
}

// locked runs f while no other process or goroutine changes names or records.
func (s *Store) locked(f func() error) error {
	lock, err := files.LockFile(context.Background(), s.path(lockName), files.Exclusive)
	if err != nil {
		return fmt.Errorf("lock images: %w", err)
	}
	defer lock.Release()
	return f()
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w: %w", path, errdef.ErrInvalid, err)
	}
	return nil
}

// write replaces a file in one step. It is called under the lock: what lies in
// tmp while nobody has the lock is left over from a process that died. A file that
// others refer to is synced first, so that it does not outlive a crash as an empty
// one.
func (s *Store) write(path string, v any, sync bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return s.replace(path, data, sync)
}

// replace is write with what is encoded already.
func (s *Store) replace(path string, data []byte, sync bool) error {
	return files.Replace(path, data, files.Replacement{Temp: s.path(tmpDir), Mode: 0o644, Sync: sync})
}

// reclaim removes what dead processes left.
func (s *Store) reclaim() error {
	dir := s.path(tmpDir)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) == 0 {
		return err
	}
	return s.locked(func() error {
		for _, e := range left {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}
