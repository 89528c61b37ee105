// Package transport makes requests to registries: sessions with credentials and tokens,
// certificates, hosts that are silent or fail for a while, and what to say of failures.
package transport

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

// Pool has the sessions with registries, and remembers what they have in common. It is
// safe for concurrent use.
type Pool struct {
	keys   credentials.Source
	agent  string
	retry  Retry
	limits Timeouts

	mu       sync.Mutex
	hosts    map[string]*host    // guarded by mu
	sessions map[string]*Session // guarded by mu
	// down are mirrors that do not answer, and since when.
	down map[string]time.Time // guarded by mu
}

// NewPool makes a pool whose requests have a user agent. Zero fields of retry and limits
// take defaults.
func NewPool(keys credentials.Source, agent string, retry Retry, limits Timeouts) *Pool {
	return &Pool{
		keys: keys, agent: agent, retry: retry.withDefaults(), limits: limits.withDefaults(),
		hosts: map[string]*host{}, sessions: map[string]*Session{}, down: map[string]time.Time{},
	}
}

// Open returns a session for a repository with the given actions ("pull" or
// "push,pull"); more are further scopes ("repository:PATH:pull"). Errors are
// *errdef.Error, or say what is wrong with a file of credentials.
func (p *Pool) Open(ctx context.Context, ep routing.Endpoint, actions string, more ...string) (*Session, error) {
	return p.openWith(ctx, ep, nil, actions, more...)
}

// openWith is Open that asks a host that is new what first is, unless that is nil; it
// may have the answer then.
func (p *Pool) openWith(ctx context.Context, ep routing.Endpoint, first *opening, actions string, more ...string) (*Session, error) {
	key := ep.Host + " " + ep.Repo + " " + actions + " " + strings.Join(more, " ") + fmt.Sprint(ep.SkipVerify, ep.Schemes)
	p.mu.Lock()
	s := p.sessions[key]
	p.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := p.login(ctx, ep, first, append([]string{"repository:" + ep.Repo + ":" + actions}, more...))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.sessions[key]; other != nil {
		return other, nil
	}
	p.sessions[key] = s
	return s, nil
}

// Anonymous returns a session without credentials, in the first of an endpoint's schemes.
// It asks nothing yet.
func (p *Pool) Anonymous(ep routing.Endpoint) (*Session, error) {
	h, err := p.host(ep)
	if err != nil {
		return nil, err
	}
	s := &Session{ep: ep, scheme: ep.Schemes[0]}
	s.client = &http.Client{Transport: h.base, CheckRedirect: s.checkRedirect}
	return s, nil
}
