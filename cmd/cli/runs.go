package cli

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// runRecord is what is kept of a process that `builder run` started: a file
// runs/<id>/run.json in the store. Its layers stay until `builder rm`.
type runRecord struct {
	ID      string
	Name    string
	Image   string // as it was named on the command line
	ImageID string
	Command []string
	Created time.Time
	// Finished, ExitCode and Stack are known when the process has ended.
	Finished *time.Time `json:",omitempty"`
	ExitCode int
	Stack    snapshot.Stack
	// Config is the image's configuration with what the command line changed, for
	// commit.
	Config registry.ImageConfig
	// Base are the layers of the image.
	Base snapshot.Stack
	// V1 is the id of the V1 record that the image ended with.
	V1 string `json:",omitempty"`
}

// run is one record and its place.
type run struct {
	record *runRecord
	dir    string
	lock   *os.File // held while the process runs
}

func (e *engine) path(elem ...string) string {
	return filepath.Join(append([]string{e.root}, elem...)...)
}

// newRun makes the record of a process that is about to start, and locks it.
func (e *engine) newRun(rec *runRecord) (*run, error) {
	id := make([]byte, 32)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	rec.ID, rec.Created = hex.EncodeToString(id), time.Now().UTC()
	if rec.Name == "" {
		rec.Name = "run-" + rec.ID[:8]
	}
	if err := os.MkdirAll(e.path("runs"), 0o755); err != nil {
		return nil, err
	}
	if other, err := e.findRun(rec.Name); err == nil && other.record.Name == rec.Name {
		return nil, mistake.New("the name %s is used by the run %s", rec.Name, shortID(other.record.ID, false)).WithHint("remove it with `builder rm %s`, or choose another --name", rec.Name)
	}
	r := &run{record: rec, dir: e.path("runs", rec.ID)}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(r.dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	r.lock = lock
	return r, r.save()
}

// save writes the record.
func (r *run) save() error {
	raw, err := json.MarshalIndent(r.record, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, "run.json")
	if err := os.WriteFile(path+".new", raw, 0o644); err != nil {
		return fmt.Errorf("keep run: %w", err)
	}
	return os.Rename(path+".new", path)
}

// release ends the hold of this process on the run.
func (r *run) release() error {
	if r.lock == nil {
		return nil
	}
	err := r.lock.Close()
	r.lock = nil
	return err
}

// remove deletes the record.
func (r *run) remove() error {
	return errors.Join(r.release(), os.RemoveAll(r.dir))
}

// running reports whether the process that made the record still holds it.
func (r *run) running() bool {
	f, err := os.Open(filepath.Join(r.dir, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// status is what ps shows.
func (r *run) status() string {
	switch {
	case r.record.Finished != nil:
		return fmt.Sprintf("Exited (%d) %s", r.record.ExitCode, ago(*r.record.Finished))
	case r.running():
		return "Running"
	}
	return "Dead" // its builder was killed; nothing of it was kept
}

// listRuns returns all runs, the newest first. Damaged records are left out.
func (e *engine) listRuns() ([]*run, error) {
	entries, err := os.ReadDir(e.path("runs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*run
	for _, entry := range entries {
		r := &run{record: &runRecord{}, dir: e.path("runs", entry.Name())}
		raw, err := os.ReadFile(filepath.Join(r.dir, "run.json"))
		if err != nil || json.Unmarshal(raw, r.record) != nil {
			continue
		}
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].record.Created.After(out[j].record.Created) })
	return out, nil
}

// findRun finds a run by name, id or the beginning of one.
func (e *engine) findRun(ref string) (*run, error) {
	runs, err := e.listRuns()
	if err != nil {
		return nil, err
	}
	var hits []*run
	for _, r := range runs {
		if r.record.Name == ref || r.record.ID == ref {
			return r, nil
		}
		if ref != "" && strings.HasPrefix(r.record.ID, ref) {
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
