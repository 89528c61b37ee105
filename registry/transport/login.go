package transport

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

func (p *Pool) login(ctx context.Context, ep routing.Endpoint, first *opening, scopes []string) (*Session, error) {
	cred, err := p.keys.Get(ctx, ep.Host, ep.Repo)
	if err != nil {
		return nil, err
	}
	h, err := p.host(ep)
	if err != nil {
		return nil, err
	}
	s := &Session{ep: ep, cred: cred}
	if cred.Auth != (authn.AuthConfig{}) {
		first = nil // what anybody may see is not what is asked for
	}
	challenge, err := h.probe(ctx, ep, first)
	if err != nil {
		return nil, s.Fail("reach registry", "", err)
	}
	s.scheme = "https"
	if challenge.Insecure {
		s.scheme = "http"
	}
	base, challenge := internalRealm(h.base, ep.Host, challenge)
	rt, err := authenticated(ctx, h.reg, base, cred, scopes, challenge)
	if err != nil {
		return nil, s.Fail("log in for", strings.TrimPrefix(scopes[0], "repository:"), err)
	}
	s.client = &http.Client{Transport: rt, CheckRedirect: s.checkRedirect}
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
