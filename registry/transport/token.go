package transport

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/credentials"
)

// tokenKey names a token: who gave it to whom, and for what.
type tokenKey struct {
	realm, service, scopes string
	cred                   credentials.Credential
}

// heldToken is a token of the pool.
type heldToken struct {
	value string
	until time.Time
}

// tokenLife is how long a token is good for whose server does not say
// (distribution, "Token Authentication").
const tokenLife = time.Minute

// token completes a pass with a token for what the session needs and what the challenge
// of next says; it is another one than that which was shown. mu is held.
func (a *authorizer) token(ctx context.Context, next *pass, shown pass, cred credentials.Credential) error {
	own := a.scopes
	wanted := strings.Fields(next.way.Parameters["scope"])
	need := own
	if !covers(own, wanted) {
		need = slices.Concat(own, wanted)
	}
	tries := [][]string{need}
	if len(a.extra) > 0 && !a.refused {
		tries = [][]string{slices.Concat(need, a.extra), need}
	}
	if len(wanted) > 0 && !covers(wanted, own) && !covers(own, wanted) {
		tries = append(tries, wanted) // the repository goes by another name there
	}
	var err error
	for i, scopes := range tries {
		var value string
		if value, err = a.exchange(ctx, next.way, scopes, shown, cred); err == nil {
			a.refused = a.refused || len(a.extra) > 0 && i > 0
			next.asked, next.header = scopes, "Bearer "+value
			return nil
		}
		if status := StatusOf(err); status < 400 || status >= 500 || status == http.StatusTooManyRequests {
			break // it is not the scopes that are refused
		}
	}
	return &loginError{scopes: own, err: err}
}

// exchange returns a token, one that is held unless that was shown, and refused, already.
func (a *authorizer) exchange(ctx context.Context, ch *gcr.Challenge, scopes []string, shown pass, cred credentials.Credential) (string, error) {
	key := tokenKey{realm: ch.Parameters["realm"], service: ch.Parameters["service"], scopes: strings.Join(scopes, " "), cred: cred}
	if t, ok := a.pool.held(key); ok && "Bearer "+t.value != shown.header {
		return t.value, nil
	}
	base, ch := internalRealm(a.host.base, a.ep.Host, ch)
	got, err := gcr.Exchange(ctx, a.host.reg, cred.Authenticator(), base, scopes, ch)
	if err != nil {
		return "", err
	}
	t := heldToken{value: got.Token, until: time.Now().Add(tokenLife)}
	if t.value == "" {
		t.value = got.AccessToken
	}
	if got.ExpiresIn > 0 {
		t.until = time.Now().Add(time.Duration(got.ExpiresIn) * time.Second * 9 / 10)
	}
	a.pool.hold(key, t)
	return t.value, nil
}

func (p *Pool) held(key tokenKey) (heldToken, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.tokens[key]
	return t, ok && time.Now().Before(t.until)
}

func (p *Pool) hold(key tokenKey, t heldToken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens[key] = t
}

// loginError says that a token server gives no token.
type loginError struct {
	scopes []string
	err    error
}

// Error implements error.
func (e *loginError) Error() string {
	text := plainText(e.err)
	for _, s := range e.scopes {
		text = "log in for " + strings.TrimPrefix(s, "repository:") + ": " + text
	}
	return text
}

// Unwrap returns the cause.
func (e *loginError) Unwrap() error { return e.err }

// sameServer reports whether two challenges name the same token server and service.
func sameServer(a, b *gcr.Challenge) bool {
	return a != nil && b != nil && a.Parameters["realm"] == b.Parameters["realm"] && a.Parameters["service"] == b.Parameters["service"]
}

// covers reports whether scopes (distribution, "Token Scope Documentation":
// TYPE:NAME:ACTION,ACTION) give all the rights of others.
func covers(scopes, others []string) bool {
	rights := map[string]bool{}
	for _, s := range scopes {
		object, actions := splitScope(s)
		for _, action := range actions {
			rights[object+action] = true
		}
	}
	for _, s := range others {
		object, actions := splitScope(s)
		for _, action := range actions {
			if !rights[object+action] {
				return false
			}
		}
	}
	return true
}

func splitScope(s string) (object string, actions []string) {
	i := strings.LastIndex(s, ":")
	return s[:i+1], strings.Split(s[i+1:], ",")
}
