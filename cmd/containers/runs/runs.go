// Package runs keeps records of the processes that `builder run` started: a file
// run.json and a lock in a folder of its own for each, below the store's folder "runs"
// (docs/FORMAT.md). Nothing else reads or writes that folder.
package runs

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// Record is what is kept of a process. Its layers stay until it is removed.
type Record struct {
	ID      string // 64 hexadecimal digits
	Name    string // unique among all records
	Image   string // as the user named it
	ImageID string
	Command []string
	Created time.Time
	// Finished, ExitCode and Stack are known when the process has ended.
	Finished *time.Time `json:",omitempty"`
	ExitCode int
	Stack    snapshot.Stack
	// Config is the image's configuration with what the user changed, for commit.
	Config registry.ImageConfig
	// Base are the layers of the image.
	Base snapshot.Stack
	// V1 is the id of the V1 record that the image ended with.
	V1 string `json:",omitempty"`
}

// ShortID is how people name the run: the first 12 digits of its id.
func (r *Record) ShortID() string { return r.ID[:min(12, len(r.ID))] }

// Run is a record and its place.
type Run struct {
	Record *Record
	dir    string
	lock   *files.Lock // held while the process runs
}

// Folder is where the records of a store are.
type Folder struct{ dir string }

// In returns the records of the store in a folder.
func In(store string) Folder { return Folder{filepath.Join(store, folder)} }

const (
	recordFile = "run.json"
	lockFile   = "lock"
)

// New makes the record of a process that is about to start, gives it an id and, unless it
// has one, a name, and holds it: see Release. A name that is taken is a *mistake.Error.
func (f Folder) New(rec *Record) (*Run, error) {
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	rec.ID, rec.Created = hex.EncodeToString(id), time.Now().UTC()
	if rec.Name == "" {
		rec.Name = "run-" + rec.ID[:8]
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	if other, err := f.Find(rec.Name); err == nil && other.Record.Name == rec.Name {
		return nil, mistake.New("the name %s is used by the run %s", rec.Name, other.Record.ShortID()).WithHint("remove it with `builder rm %s`, or choose another --name", rec.Name)
	}
	r := &Run{Record: rec, dir: filepath.Join(f.dir, rec.ID)}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if r.lock, err = files.TryLockFile(filepath.Join(r.dir, lockFile), files.Exclusive); err != nil {
		return nil, err
	}
	return r, r.Save()
}

// Save writes the record.
func (r *Run) Save() error {
	raw, err := json.MarshalIndent(r.Record, "", "  ")
	if err == nil {
		err = files.Replace(filepath.Join(r.dir, recordFile), raw, files.Replacement{Mode: 0o644})
	}
	if err != nil {
		return fmt.Errorf("keep run: %w", err)
	}
	return nil
}

// Release ends the hold of this process on the run. It is idempotent.
func (r *Run) Release() error { return r.lock.Release() }

// Remove deletes the record. Its layers may be collected then.
func (r *Run) Remove() error { return errors.Join(r.Release(), os.RemoveAll(r.dir)) }

// Running reports whether the process that made the record still holds it.
func (r *Run) Running() bool { return files.IsLocked(filepath.Join(r.dir, lockFile), files.Shared) }

// List returns all runs, the newest first. Damaged records are left out.
func (f Folder) List() ([]*Run, error) {
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	var out []*Run
	for _, name := range names {
		r := &Run{Record: &Record{}, dir: filepath.Join(f.dir, name)}
		raw, err := os.ReadFile(filepath.Join(r.dir, recordFile))
		if err != nil || json.Unmarshal(raw, r.Record) != nil {
			continue
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b *Run) int { return b.Record.Created.Compare(a.Record.Created) })
	return out, nil
}

// names are those of the runs' folders.
func (f Folder) names() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, nil
}

// Find finds a run by name, id or the beginning of one. That there is none, or several,
// is a *mistake.Error.
func (f Folder) Find(ref string) (*Run, error) {
	runs, err := f.List()
	if err != nil {
		return nil, err
	}
	var hits []*Run
	for _, r := range runs {
		if r.Record.Name == ref || r.Record.ID == ref {
			return r, nil
		}
		if ref != "" && strings.HasPrefix(r.Record.ID, ref) {
			hits = append(hits, r)
		}
	}
	switch len(hits) {
	case 0:
		return nil, mistake.New("no run %q", ref).WithHint("`builder ps -a` lists them")
	case 1:
		return hits[0], nil
	}
	return nil, mistake.New("%q is the beginning of several runs' ids", ref)
}

// Stacks are the layers that runs need.
func (f Folder) Stacks() ([]snapshot.Stack, error) {
	runs, err := f.List()
	var out []snapshot.Stack
	for _, r := range runs {
		out = append(out, r.Record.Base, r.Record.Stack)
	}
	return out, err
}

// Damaged returns the folders of records that cannot be read. A folder without a record
// belongs to a run that begins or ends, and is none of them.
func (f Folder) Damaged() (dirs []string, err error) {
	names, err := f.names()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(f.dir, name, recordFile))
		if errors.Is(err, fs.ErrNotExist) || err == nil && json.Valid(data) {
			continue
		}
		dirs = append(dirs, filepath.Join(f.dir, name))
	}
	return dirs, err
}
