package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot/files"
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

// namesFile is the file names.json.
type namesFile struct {
	Version int
	Names   map[string]nameTarget
}

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
func (s *Images) readNames() (map[string]nameTarget, error) {
	path := filepath.Join(s.dir, "names.json")
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
		err = fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
		return nil, fmt.Errorf("read image names: %w (`builder store check --repair` puts the file aside)", err)
	}
	if f.Version > imagesVersion {
		return nil, fmt.Errorf("read image names: format version %d is newer than this program", f.Version)
	}
	if f.Names == nil {
		f.Names = map[string]nameTarget{}
	}
	return f.Names, nil
}

// CheckNames says what is wrong with the file of names; ErrInvalid if it is damaged.
func (s *Images) CheckNames() error {
	_, err := s.readNames()
	return err
}

// DropNames puts the file of names aside, as names.json.damaged. The images stay,
// without names.
func (s *Images) DropNames() error {
	return s.locked(func() error {
		path := filepath.Join(s.dir, "names.json")
		return os.Rename(path, path+".damaged")
	})
}

func (s *Images) writeNames(names map[string]nameTarget) error {
	if err := s.write(filepath.Join(s.dir, "names.json"), namesFile{Version: imagesVersion, Names: names}, true); err != nil {
		return fmt.Errorf("write image names: %w", err)
	}
	return nil
}

func (s *Images) recordPath(id digest.Digest) string {
	return filepath.Join(s.dir, "records", id.Encoded()+".json")
}

func (s *Images) record(id digest.Digest) (*imageRecord, error) {
	var rec imageRecord
	err := readJSON(s.recordPath(id), &rec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", id, err)
	}
	if rec.ID != id {
		return nil, fmt.Errorf("read image %s: %w: the record is of %q", id, ErrInvalid, rec.ID)
	}
	return &rec, nil
}

// records returns all image records; one that another process removes meanwhile
// is left out.
func (s *Images) records() ([]*imageRecord, error) {
	ids, err := s.ids("records")
	if err != nil {
		return nil, err
	}
	var recs []*imageRecord
	for _, hex := range ids {
		rec, err := s.record(digest.NewDigestFromEncoded(digest.SHA256, hex))
		if errors.Is(err, ErrNotFound) {
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
func (s *Images) ids(sub string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, sub))
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

// PutV1 stores records of steps. Records that are there already are left alone:
// their names are digests of what they say.
func (s *Images) PutV1(recs ...V1Record) error {
	var missing []V1Record
	for _, rec := range recs {
		if fi, err := os.Lstat(s.v1Path(rec.ID)); err != nil || fi.Size() == 0 {
			missing = append(missing, rec)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return s.locked(func() error {
		for _, rec := range missing {
			if err := s.write(s.v1Path(rec.ID), rec, false); err != nil {
				return fmt.Errorf("store v1 record %s: %w", rec.ID, err)
			}
		}
		return nil
	})
}

func (s *Images) v1Path(id string) string { return filepath.Join(s.dir, "v1", id+".json") }

// V1 finds a V1 record by id or a prefix of one. Errors match ErrNotFound or
// ErrAmbiguous.
func (s *Images) V1(id string) (*V1Record, error) {
	full, err := s.prefixed("v1", id)
	if err != nil {
		return nil, err
	}
	var rec V1Record
	if err := readJSON(s.v1Path(full), &rec); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNotFound
		}
		return nil, fmt.Errorf("read v1 record %s: %w", full, err)
	}
	rec.Stack = s.refresh(rec.Stack)
	return &rec, nil
}

// V1Chain returns the records from a V1 id down to the first instruction, the
// newest first. It ends early where a record is missing.
func (s *Images) V1Chain(id string) ([]V1Record, error) {
	var chain []V1Record
	for id != "" {
		rec, err := s.V1(id)
		if errors.Is(err, ErrNotFound) {
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

// locked runs f while no other process or goroutine changes names or records.
func (s *Images) locked(f func() error) error {
	lock, err := files.LockFile(context.Background(), filepath.Join(s.dir, "lock"), files.Exclusive)
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
		return fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
	}
	return nil
}

// write replaces a file in one step. It is called under the lock: what lies in
// tmp while nobody has the lock is left over from a process that died. A file that
// others refer to is synced first, so that it does not outlive a crash as an empty
// one.
func (s *Images) write(path string, v any, sync bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return files.Replace(path, data, files.Replacement{Temp: filepath.Join(s.dir, "tmp"), Mode: 0o644, Sync: sync})
}

// reclaim removes what dead processes left.
func (s *Images) reclaim() error {
	dir := filepath.Join(s.dir, "tmp")
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
