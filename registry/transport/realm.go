package transport

import (
	"maps"
	"net"
	"net/http"
	"net/url"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/routing"
)

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
