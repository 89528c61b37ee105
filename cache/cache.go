package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Key names a step's result before the step has run: a definition key or a
// result key, "sha256:<hex>". See docs/FORMAT.md for what is hashed.
type Key digest.Digest

// ErrMiss says that a cache has no valid record for a key.
var ErrMiss = errors.New("cache miss")

// Part is one component that was hashed into a key, kept so that it can be
// printed why a step missed.
type Part struct {
	Name  string // "op", "platform", "input 0", "context src/a.go", …
	Value string
}

// Record says what a step's result is. It names whole stacks, so that a hit is
// consistent in itself.
type Record struct {
	Version int
	Key     Key
	// Definition is the definition key under which the step ran first.
	Definition Key
	// Step is the step's display name, for people.
	Step string
	// Names are those by which the step is found in later builds of the project, the
	// surest first (NameOf).
	Names []string `json:",omitempty"`
	// Project names what was built, so that steps of other builds that are called alike
	// are not taken for earlier ones of this.
	Project string `json:",omitempty"`
	Created time.Time
	// Duration is how long the step took when it ran.
	Duration time.Duration
	// Outputs are the results, by output index.
	Outputs []snapshot.Stack
	// Parts are the components of Key.
	Parts []Part `json:",omitempty"`
	// Findings are what the step found when it ran: they are told of every time that
	// the record is used.
	Findings []Finding `json:",omitempty"`
}

// Finding is something that a step did as asked and that may not have been meant.
type Finding struct {
	Rule dag.Rule
	Text string // names what was found, and holds no secret
}

// Cache keeps records. All methods are safe for concurrent use by goroutines
// and by processes that share the backend.
type Cache interface {
	// Get returns the record for a key, or an error that matches ErrMiss. A
	// damaged record, or one that names data that is gone, is a miss. Records may share
	// the layers of their Outputs, which nobody changes.
	Get(ctx context.Context, key Key) (*Record, error)
	// Put stores a record under a key. Storing twice is not an error.
	Put(ctx context.Context, key Key, rec *Record) error
}

// Locker serialises the work for one key between processes.
type Locker interface {
	// Lock waits until the key is free, or until ctx ends.
	Lock(ctx context.Context, key Key) (unlock func(), err error)
}

// History is a Cache that remembers the latest record of a step by its project and
// each of its names. It is used to explain misses, never to answer a lookup.
type History interface {
	// Latest returns the record that was stored last for a step of this name in a project,
	// or an error that matches ErrMiss. Its layers may be gone.
	Latest(ctx context.Context, project, name string) (*Record, error)
}

// NameOf makes one of Record.Names of a text, which it does not tell.
func NameOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
