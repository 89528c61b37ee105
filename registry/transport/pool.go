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
	o Options

	mu       sync.Mutex
	hosts    map[string]*host       // guarded by mu
	sessions map[string]*Session    // guarded by mu
	tokens   map[tokenKey]heldToken // guarded by mu
	// down are mirrors that do not answer, and since when.
	down map[string]time.Time // guarded by mu
}

// Options say how registries are reached.
type Options struct {
	// Credentials are asked when a registry wants a login. Required.
	Credentials credentials.Source
	// Certs are where certificates are.
	Certs Certs
	// UserAgent is sent with every request, unless it is "".
	UserAgent string
	// Zero fields of these take defaults.
	Retry    Retry
	Timeouts Timeouts
	// Warn is told of what cannot be used; nil: nobody is.
	Warn func(text string)
}

// NewPool makes a pool.
func NewPool(o Options) *Pool {
	o.Retry, o.Timeouts = o.Retry.withDefaults(), o.Timeouts.withDefaults()
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return &Pool{o: o, hosts: map[string]*host{}, sessions: map[string]*Session{}, tokens: map[tokenKey]heldToken{}, down: map[string]time.Time{}}
}
