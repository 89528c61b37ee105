package transport

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"layered.build/builder/registry/routing"
)

// Session is a way to one repository. It asks nothing by itself: whether, and how, the
// repository wants a login is learned from the answers to the requests that are made. It
// is safe for concurrent use.
type Session struct {
	ep     routing.Endpoint
	host   *host
	auth   *authorizer // nil: nothing is ever presented
	client *http.Client

	// OnlyWhole says that the repository takes blobs at once only, as whoever sent it a
	// part has found out.
	OnlyWhole atomic.Bool
}

// Open returns a session for a repository with the given actions ("pull" or
// "push,pull"); extra are scopes ("repository:PATH:pull") that are asked for beside and
// that the session does without where they are refused. Nothing is asked yet. Errors say
// what is wrong with the name of a host, or with the certificates for it.
func (p *Pool) Open(ep routing.Endpoint, actions string, extra ...string) (*Session, error) {
	return p.open(ep, []string{"repository:" + ep.Repo + ":" + actions}, extra)
}

func (p *Pool) open(ep routing.Endpoint, scopes, extra []string) (*Session, error) {
	h, err := p.host(ep)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprint(ep, scopes, extra)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sessions[key]
	if s == nil {
		auth := &authorizer{pool: p, host: h, ep: ep, scopes: scopes, extra: extra}
		s = &Session{ep: ep, host: h, auth: auth}
		s.client = &http.Client{Transport: auth, CheckRedirect: s.checkRedirect}
		p.sessions[key] = s
	}
	return s, nil
}

// Anonymous returns a session without credentials. It asks nothing yet.
func (p *Pool) Anonymous(ep routing.Endpoint) (*Session, error) {
	h, err := p.host(ep)
	if err != nil {
		return nil, err
	}
	s := &Session{ep: ep, host: h}
	s.client = &http.Client{Transport: h.base, CheckRedirect: s.checkRedirect}
	return s, nil
}

// Do makes a request, with the session's credentials if the registry asks for a login. It
// follows redirects, where the body can be sent again (http.Request.GetBody). The caller
// closes the body of the response.
func (s *Session) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "" {
		return s.host.do(req, s.ep.Schemes, s.client.Do)
	}
	return s.client.Do(req)
}

// URL returns an address below the repository, for Do; the path begins with a slash. It
// has no scheme while that is not known.
func (s *Session) URL(path string) string { return s.prefix() + "/v2/" + s.ep.Repo + path }

// prefix is the address of the host.
func (s *Session) prefix() string {
	scheme := s.host.speaks()
	if scheme != "" {
		scheme += ":"
	}
	return scheme + "//" + s.ep.Host
}

// Lacks reports whether a scope that the session was opened with is known to be refused.
func (s *Session) Lacks(scope string) bool { return s.auth != nil && s.auth.lacks(scope) }

// Fail turns the failure of a request into an *errdef.Error; see the function Fail.
func (s *Session) Fail(op, object string, err error) error {
	return Fail(s.ep.Host, s.auth.credential(), op, object, err)
}

// checkRedirect follows redirects (registries send blobs from elsewhere), but
// not from https to http: nobody could vouch for the answer.
func (s *Session) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" && !s.ep.SkipVerify {
		return fmt.Errorf("redirect from https to %s", req.URL.Scheme)
	}
	return nil
}
