package executor

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"layered.build/builder/executor/secretscan"
)

// LeakError says that a step wrote a secret where it would stay. Its text does not
// hold the secret.
type LeakError struct {
	// Found says which secret, and where in Place.
	Found *secretscan.Found
	// Place is a file of the step's layer, or its log.
	Place string
}

// Error implements error.
func (e *LeakError) Error() string {
	return "secret " + e.Found.Secret + " was written to " + e.where()
}

func (e *LeakError) where() string {
	if e.Found.Form != secretscan.Plain {
		return fmt.Sprintf("%s (offset %d, in %s)", e.Place, e.Found.Offset, e.Found.Form)
	}
	return fmt.Sprintf("%s (offset %d)", e.Place, e.Found.Offset)
}

// Ledger is a Secrets that remembers what it handed out. It is safe for concurrent
// use.
type Ledger struct {
	from Secrets

	mu   sync.Mutex // guards used
	used map[string][]byte
}

var _ Secrets = (*Ledger)(nil)

// NewLedger returns a Ledger that hands out the secrets of from.
func NewLedger(from Secrets) *Ledger { return &Ledger{from: from, used: map[string][]byte{}} }

// Secret implements Secrets.
func (l *Ledger) Secret(ctx context.Context, id string) ([]byte, error) {
	v, err := l.from.Secret(ctx, id)
	if err == nil {
		l.mu.Lock()
		l.used[id] = v
		l.mu.Unlock()
	}
	return v, err
}

// Used returns what was handed out so far, by id.
func (l *Ledger) Used() map[string][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.used)
}
