package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

// pool has the sessions with registries. It is safe for concurrent use.
type pool struct {
	keys   *credentials.Keychain
	agent  string
	retry  Retry
	limits Timeouts

	mu       sync.Mutex
	hosts    map[string]*host    // guarded by mu
	sessions map[string]*session // guarded by mu
	// down are mirrors that do not answer, and since when.
	down map[string]time.Time // guarded by mu
}

// newPool makes a pool whose requests have a user agent. Zero fields of retry and limits
// take defaults.
func newPool(keys *credentials.Keychain, agent string, retry Retry, limits Timeouts) *pool {
	return &pool{
		keys: keys, agent: agent, retry: retry.withDefaults(), limits: limits.withDefaults(),
		hosts: map[string]*host{}, sessions: map[string]*session{}, down: map[string]time.Time{},
	}
}

// host is one registry as this process knows it.
type host struct {
	base *patient
	reg  name.Registry

	mu        sync.Mutex
	challenge *gcr.Challenge // guarded by mu; nil until the first answer
}

// session is an authenticated way to one repository.
type session struct {
	ep     routing.Endpoint
	scheme string
	cred   credentials.Credential
	client *http.Client
}

// do makes a request with the session's credentials.
func (s *session) do(req *http.Request) (*http.Response, error) { return s.client.Do(req) }

// url returns an address below the repository.
func (s *session) url(path string) string {
	return s.scheme + "://" + s.ep.Host + "/v2/" + s.ep.Repo + path
}

// open returns a session for a repository with the given actions ("pull" or
// "push,pull"); more are further scopes.
func (p *pool) open(ctx context.Context, ep routing.Endpoint, actions string, more ...string) (*session, error) {
	return p.openWith(ctx, ep, nil, actions, more...)
}

// openWith is open that asks a host that is new what first is, unless that is nil; it
// may have the answer then.
func (p *pool) openWith(ctx context.Context, ep routing.Endpoint, first *opening, actions string, more ...string) (*session, error) {
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

func (p *pool) login(ctx context.Context, ep routing.Endpoint, first *opening, scopes []string) (*session, error) {
	cred, err := p.keys.Get(ep.Host, ep.Repo)
	if err != nil {
		return nil, err
	}
	h, err := p.host(ep)
	if err != nil {
		return nil, err
	}
	s := &session{ep: ep, cred: cred}
	if cred.Auth != (authn.AuthConfig{}) {
		first = nil // what anybody may see is not what is asked for
	}
	challenge, err := h.probe(ctx, ep, first)
	if err != nil {
		return nil, s.fail("reach registry", "", err)
	}
	s.scheme = "https"
	if challenge.Insecure {
		s.scheme = "http"
	}
	base, challenge := internalRealm(h.base, ep.Host, challenge)
	rt, err := authenticated(ctx, h.reg, base, cred, scopes, challenge)
	if err != nil {
		return nil, s.fail("log in for", strings.TrimPrefix(scopes[0], "repository:"), err)
	}
	s.client = &http.Client{Transport: rt, CheckRedirect: p.checkRedirect(s)}
	return s, nil
}

// anonymous returns a session without credentials, in the first of an endpoint's schemes.
func (p *pool) anonymous(ep routing.Endpoint) (*session, error) {
	h, err := p.host(ep)
	if err != nil {
		return nil, err
	}
	s := &session{ep: ep, scheme: ep.Schemes[0]}
	s.client = &http.Client{Transport: h.base, CheckRedirect: p.checkRedirect(s)}
	return s, nil
}

// authenticated wraps a transport with what the registry's challenge asks for.
func authenticated(ctx context.Context, reg name.Registry, base http.RoundTripper, cred credentials.Credential, scopes []string, ch *gcr.Challenge) (http.RoundTripper, error) {
	token := &gcr.Token{}
	if strings.EqualFold(ch.Scheme, "bearer") {
		if cred.Auth.RegistryToken != "" {
			token.Token = cred.Auth.RegistryToken
		} else {
			got, err := gcr.Exchange(ctx, reg, cred.Authenticator(), base, scopes, ch)
			if err != nil {
				return nil, err
			}
			token = got
			if token.Token == "" {
				token.Token = token.AccessToken
			}
		}
	}
	return gcr.FromToken(reg, cred.Authenticator(), base, ch, token)
}

// internalRealm lets a registry at a private address name a token server at
// another one, as a self-hosted registry without DNS does. The library refuses
// token servers at private addresses, lest a registry in the internet makes us ask
// a server inside; so for this case the server gets a name. Link-local addresses
// (the metadata services of clouds) stay refused.
func internalRealm(base http.RoundTripper, registry string, ch *gcr.Challenge) (http.RoundTripper, *gcr.Challenge) {
	u, err := url.Parse(ch.Parameters["realm"])
	if err != nil || u.Host == registry {
		return base, ch
	}
	_, from := routing.SplitHost(registry)
	if _, to := routing.SplitHost(u.Host); !isInternal(from) || !isInternal(to) {
		return base, ch
	}
	alias := &aliasTransport{inner: base, alias: "token-server.invalid", host: u.Host}
	u.Host = alias.alias
	named := *ch
	named.Parameters = maps.Clone(ch.Parameters)
	named.Parameters["realm"] = u.String()
	return alias, &named
}

func isInternal(ip net.IP) bool { return ip != nil && (ip.IsLoopback() || ip.IsPrivate()) }

// aliasTransport sends requests for one host to another.
type aliasTransport struct {
	inner       http.RoundTripper
	alias, host string
}

// RoundTrip implements http.RoundTripper.
func (t *aliasTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == t.alias {
		req = req.Clone(req.Context())
		req.URL.Host, req.Host = t.host, t.host
	}
	return t.inner.RoundTrip(req)
}

// checkRedirect follows redirects (registries send blobs from elsewhere), but
// not from https to http: nobody could vouch for the answer.
func (p *pool) checkRedirect(s *session) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		if s.scheme == "https" && req.URL.Scheme != "https" && !s.ep.SkipVerify {
			return fmt.Errorf("redirect from https to %s", req.URL.Scheme)
		}
		return nil
	}
}

func (p *pool) host(ep routing.Endpoint) (*host, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := fmt.Sprint(ep.Host, ep.SkipVerify, ep.Schemes)
	if h := p.hosts[key]; h != nil {
		return h, nil
	}
	rt, err := newTransport(ep.Host, ep.SkipVerify, p.limits)
	if err != nil {
		return nil, err
	}
	reg, err := name.NewRegistry(ep.Host, name.WeakValidation)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w: %w", ep.Host, ErrInvalid, err)
	}
	h := &host{base: &patient{inner: rt, limits: p.limits, agent: p.agent}, reg: reg}
	p.hosts[key] = h
	return h, nil
}

// probe finds out which scheme the host speaks and how it wants to be talked to.
// Only answers are remembered, so that a host that was down is asked again.
func (h *host) probe(ctx context.Context, ep routing.Endpoint, first *opening) (*gcr.Challenge, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.challenge != nil {
		return h.challenge, nil
	}
	var errs []error
	for _, scheme := range ep.Schemes {
		ch, err := first.try(ctx, h.base, scheme+"://"+ep.Host+"/v2/"+ep.Repo)
		if ch == nil && err == nil {
			ch, err = ping(ctx, h.base, scheme+"://"+ep.Host+"/v2/")
		}
		if err == nil {
			h.challenge = ch
			return ch, nil
		}
		errs = append(errs, err)
		var status *statusError
		if errors.As(err, &status) || ctx.Err() != nil {
			return nil, err // it speaks this scheme; the other would not help
		}
	}
	// The last scheme's failure is the interesting one: for hosts that may speak
	// http, https failing is expected.
	return nil, errs[len(errs)-1]
}

func ping(ctx context.Context, rt http.RoundTripper, url string) (*gcr.Challenge, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	if ch := challengeOf(resp); ch != nil {
		return ch, nil
	}
	return nil, responseError(resp)
}

// challengeOf reads how a host wants to be talked to, nil if the answer does not
// say it.
func challengeOf(resp *http.Response) *gcr.Challenge {
	ch := &gcr.Challenge{Insecure: resp.Request.URL.Scheme == "http"}
	switch resp.StatusCode {
	case http.StatusOK:
		return ch
	case http.StatusUnauthorized:
		ch.Scheme, ch.Parameters = pickChallenge(resp.Header.Values("WWW-Authenticate"))
		return ch
	}
	return nil
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

// pickChallenge parses WWW-Authenticate headers (RFC 9110, section 11.6.1) and
// returns a scheme that is understood, bearer before basic.
func pickChallenge(headers []string) (string, map[string]string) {
	scheme, params := "", map[string]string(nil)
	for _, h := range headers {
		s, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		switch strings.ToLower(s) {
		case "bearer":
			return "bearer", challengeParams(rest)
		case "basic":
			scheme, params = "basic", challengeParams(rest)
		}
	}
	return scheme, params
}

func challengeParams(s string) map[string]string {
	params := map[string]string{}
	for s = strings.TrimLeft(s, " ,"); s != ""; s = strings.TrimLeft(s, " ,") {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		value, s = challengeValue(rest)
		params[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return params
}

// challengeValue reads a token or a quoted string.
func challengeValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexByte(s, ','); i >= 0 {
			return strings.TrimSpace(s[:i]), s[i:]
		}
		return strings.TrimSpace(s), ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
