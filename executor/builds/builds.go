// Package builds keeps what became of the last builds: a file for each below the store's
// folder "builds" (docs/FORMAT.md). Nothing else reads or writes that folder.
package builds

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

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/snapshot/files"
)

const (
	// folder is where the files are, below the store's folder.
	folder = "builds"
	suffix = ".json"
	// version is that of the format.
	version = 1
	// kept is how many builds are remembered.
	kept = 50
)

// Build is what became of a build.
type Build struct {
	Version  int
	ID       string // 12 hexadecimal digits
	Started  time.Time
	Duration time.Duration
	// Dockerfile is what messages call it, Project is executor.Options.Project.
	Dockerfile, Project string
	// Names are those of the image, Images the digests by which it can be named.
	Names  []string        `json:",omitempty"`
	Images []digest.Digest `json:",omitempty"`
	// Error is that of a build that failed.
	Error string `json:",omitempty"`
	// Steps are those of the plan, in its order.
	Steps []Step
}

// The values of Step.Result.
const (
	Ran      = "ran"
	Cached   = "cached"
	Failed   = "failed"
	Canceled = "canceled"
	Source   = "source" // looked at, not made: an image, a context
)

// Step is what became of a step.
type Step struct {
	Name  string
	Stage string `json:",omitempty"`
	// Start and End are the instruction's lines, 0 if it has none.
	Start, End int `json:",omitempty"`
	Result     string
	// Reason says in a few words why it is cached.
	Reason   string        `json:",omitempty"`
	Key      cache.Key     `json:",omitempty"` // the definition key
	Started  time.Time     `json:",omitzero"`
	Duration time.Duration `json:",omitempty"`
	// Why says in words why it ran, Places which shared caches had no entry either.
	Why    []string `json:",omitempty"`
	Places []string `json:",omitempty"`
	// Changes are the components of the key that are not those of Earlier.
	Changes []executor.Change `json:",omitempty"`
	// More is how many changes are left out.
	More    int      `json:",omitempty"`
	Earlier *Earlier `json:",omitempty"`
	Error   string   `json:",omitempty"`
}

// Earlier is a record that a step was compared with.
type Earlier struct {
	Key      cache.Key
	Created  time.Time
	Duration time.Duration
}

// Folder is where the builds of a store are.
type Folder struct{ dir string }

// In returns the builds of the store in a folder.
func In(store string) Folder { return Folder{filepath.Join(store, folder)} }

// Add remembers a build, and forgets the oldest beyond a bound. It gives the build its ID.
func (f Folder) Add(b *Build) error {
	var id [6]byte
	rand.Read(id[:]) // never fails
	b.ID, b.Version = hex.EncodeToString(id[:]), version
	data, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("remember the build: %w", err)
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("remember the build: %w", err)
	}
	// The time orders the names; clocks may be wrong, so it must not order anything else.
	name := fmt.Sprintf("%020d-%s%s", max(0, b.Started.UnixNano()), b.ID, suffix)
	if err := files.Replace(filepath.Join(f.dir, name), data, files.Replacement{}); err != nil {
		return fmt.Errorf("remember the build: %w", err)
	}
	names, err := f.names()
	if err != nil {
		return err
	}
	for _, old := range names[min(kept, len(names)):] {
		if err := os.Remove(filepath.Join(f.dir, old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a build: %w", err)
		}
	}
	return nil
}

// Find returns the latest build that fits, nil if there is none. Files that cannot be read
// are passed over.
func (f Folder) Find(fits func(*Build) bool) (*Build, error) {
	names, err := f.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if b, err := f.read(name); err == nil && fits(b) {
			return b, nil
		}
	}
	return nil, nil
}

// names lists the files, the newest first.
func (f Folder) names() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	var names []string
	for _, e := range slices.Backward(entries) {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (f Folder) read(name string) (*Build, error) {
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read build: %w", err)
	}
	b := &Build{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("read build: %w", err)
	}
	if b.Version != version {
		return nil, fmt.Errorf("read build: it is of version %d; this program knows %d", b.Version, version)
	}
	return b, nil
}
