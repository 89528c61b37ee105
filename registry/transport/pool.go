// Package transport makes requests to registries: sessions with credentials and tokens,
// certificates, hosts that are silent or fail for a while, and what to say of failures.
package transport

import (
	"sync"
	"time"

	"layered.build/builder/registry/credentials"
)

// Pool has the sessions with registries, and remembers what they have in common. It is
// safe for concurrent use.
type Pool struct {
	keys   credentials.Source
	agent  string
	retry  Retry
	limits Timeouts

	mu       sync.Mutex
	hosts    map[string]*host       // guarded by mu
	sessions map[string]*Session    // guarded by mu
	tokens   map[tokenKey]heldToken // guarded by mu
	// down are mirrors that do not answer, and since when.
	down map[string]time.Time // guarded by mu
}

// NewPool makes a pool whose requests have a user agent. Zero fields of retry and limits
// take defaults.
func NewPool(keys credentials.Source, agent string, retry Retry, limits Timeouts) *Pool {
	return &Pool{
		keys: keys, agent: agent, retry: retry.withDefaults(), limits: limits.withDefaults(),
		hosts: map[string]*host{}, sessions: map[string]*Session{}, tokens: map[tokenKey]heldToken{}, down: map[string]time.Time{},
	}
}
