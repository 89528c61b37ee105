package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/routing"
)

// host is one registry as this process knows it.
type host struct {
	name string
	base *patient
	reg  name.Registry

	// opening is held by the request that finds out which scheme the host speaks, first by
	// the one whose answer tells how it wants to be talked to.
	opening, first sync.Mutex

	mu sync.Mutex
	// scheme is "" until the first answer, where there is a choice.
	scheme string // guarded by mu
	// answered says that the host has answered a request.
	answered bool // guarded by mu
	// guess is how one of the host's repositories wants to be talked to: most hosts want
	// the same for all of theirs. nil: none has asked for anything yet.
	guess *gcr.Challenge // guarded by mu
}

func (p *Pool) host(ep routing.Endpoint) (*host, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := fmt.Sprint(ep.Host, ep.SkipVerify, ep.Schemes)
	if h := p.hosts[key]; h != nil {
		return h, nil
	}
	rt, err := p.newTransport(ep.Host, ep.SkipVerify)
	if err != nil {
		return nil, err
	}
	reg, err := name.NewRegistry(ep.Host, name.WeakValidation)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w: %w", ep.Host, errdef.ErrInvalid, err)
	}
	h := &host{name: ep.Host, base: &patient{inner: rt, limits: p.o.Timeouts, agent: p.o.UserAgent}, reg: reg}
	if len(ep.Schemes) == 1 {
		h.scheme = ep.Schemes[0]
	}
	p.hosts[key] = h
	return h, nil
}

// speaks returns the host's scheme, "" if it is not known.
func (h *host) speaks() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.scheme
}

// enter waits while a first request is under way, and returns a guess at how the host
// wants to be talked to. Who enters first leaves with the answer.
func (h *host) enter() (guess *gcr.Challenge, leave func()) {
	if guess, answered := h.guessed(); answered {
		return guess, func() {}
	}
	h.first.Lock()
	guess, answered := h.guessed()
	if answered {
		h.first.Unlock()
		return guess, func() {}
	}
	return nil, sync.OnceFunc(h.first.Unlock)
}

func (h *host) guessed() (*gcr.Challenge, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guess, h.answered
}

// learn remembers an answer. What made it succeed is a better guess than what it asks for.
func (h *host) learn(asked, worked *gcr.Challenge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered = true
	if worked != nil {
		h.guess = worked
	} else if h.guess == nil && asked != nil && asked.Scheme != "" {
		h.guess = asked
	}
}

// isOwn reports whether an address is one of the host itself, which may see what is meant
// for it alone: in its own scheme, or a safer one.
func (h *host) isOwn(u *url.URL) bool {
	scheme := h.speaks()
	if scheme == "" {
		scheme = u.Scheme
	}
	if u.Scheme == scheme {
		return withPort(u.Host, scheme) == withPort(h.name, scheme)
	}
	return u.Scheme == "https" && u.Host == h.name
}

// withPort names the port of host[:port].
func withPort(host, scheme string) string {
	u := url.URL{Host: host}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// do makes a request whose address has no scheme: that which the host speaks. Only
// answers are remembered, so that a host that was down is asked again.
func (h *host) do(req *http.Request, schemes []string, do func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if h.speaks() == "" {
		h.opening.Lock()
		if h.speaks() == "" {
			defer h.opening.Unlock()
		} else { // those who have waited go on together
			h.opening.Unlock()
		}
	}
	if scheme := h.speaks(); scheme != "" {
		req.URL.Scheme = scheme
		return do(req)
	}
	// The last scheme's failure is the interesting one: for hosts that may speak http,
	// https failing is expected, unless that is what they speak.
	var failed error
	for _, scheme := range schemes {
		try, err := repeat(req)
		if err != nil {
			return nil, err
		}
		try.URL.Scheme = scheme
		resp, err := do(try)
		if err == nil {
			h.mu.Lock()
			h.scheme = scheme
			h.mu.Unlock()
			return resp, nil
		}
		failed = err
		if speaksTLS(err) || StatusOf(err) != 0 || req.Context().Err() != nil {
			break
		}
	}
	return nil, failed
}

// speaksTLS reports whether a connection failed in a way that only TLS can.
func speaksTLS(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &verify) || errors.As(err, &unknown) || isAlert(err)
}

// isAlert reports whether the other side ended a connection with an alert of TLS.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// errBodyGone is why a request cannot be made again: its body has been read. It passes:
// who made the request can make another one.
var errBodyGone = errors.New("the request has to be made again")

// repeat returns a request like one that may have been sent.
func repeat(req *http.Request) (*http.Request, error) {
	out := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return out, nil
	}
	if req.GetBody == nil {
		return nil, errBodyGone
	}
	var err error
	out.Body, err = req.GetBody()
	return out, err
}
