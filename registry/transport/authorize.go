package transport

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

// authorizer presents to a repository what it asks for. The answer to the actual request
// decides: neither another address of the host nor another repository says what this one
// wants. Until a repository asks, nothing is presented and no credential is looked for,
// save that a host whose repositories asked before is taken to ask the same again.
type authorizer struct {
	pool *Pool
	host *host
	ep   routing.Endpoint
	// scopes are what is needed, extra what is asked for beside.
	scopes, extra []string

	// opening is held by the first request, so that several at once are not all refused.
	opening sync.Mutex

	mu sync.Mutex
	// now is what is presented.
	now pass // guarded by mu
	// answered says that the repository has answered a request.
	answered bool // guarded by mu
	// refused says that extra is refused.
	refused bool // guarded by mu
	// cred is what was looked for when a login was wanted, nil before.
	cred *credentials.Credential // guarded by mu
}

// pass is what is presented with a request; the zero value is nothing.
type pass struct {
	header string // Authorization
	// asked are the scopes of a token.
	asked []string
	// way is how the repository wants to be talked to.
	way *gcr.Challenge
}

// RoundTrip implements http.RoundTripper. What is not the host's own, as where it
// redirects to, is presented nothing.
func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	if !a.host.isOwn(req.URL) {
		return a.host.base.RoundTrip(req)
	}
	shown, first, err := a.begin(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	defer first.end()
	resp, err := a.send(req, shown)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	first.leave() // others need not be refused to know as much
	next, ok, err := a.answer(req.Context(), shown, challengeOf(resp))
	if err == nil && !ok {
		return resp, nil
	}
	if err == nil {
		req, err = repeat(req)
	}
	Drain(resp)
	if err != nil {
		return nil, err
	}
	return a.send(req, next)
}

// send makes a request and remembers how it was answered.
func (a *authorizer) send(req *http.Request, shown pass) (*http.Response, error) {
	if shown.header != "" {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", shown.header)
	}
	resp, err := a.host.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		a.host.learn(challengeOf(resp), nil)
	} else {
		a.host.learn(nil, shown.way)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered = true
	return resp, nil
}

// opening is what the first request of a repository, and perhaps of its host, holds up.
type opening struct{ leave, end func() }

// begin returns what to present. Until the repository has answered one request, and any
// of its host's one, the others wait.
func (a *authorizer) begin(ctx context.Context) (pass, opening, error) {
	if shown, ok := a.known(); ok {
		return shown, opening{func() {}, func() {}}, nil
	}
	a.opening.Lock()
	if shown, ok := a.known(); ok { // those who have waited go on together
		a.opening.Unlock()
		return shown, opening{func() {}, func() {}}, nil
	}
	guess, leave := a.host.enter()
	o := opening{leave: leave, end: func() { leave(); a.opening.Unlock() }}
	shown, _ := a.known()
	if guess != nil {
		// Where it is wrong, the answer to the request says so.
		if s, ok, err := a.answer(ctx, shown, guess); err == nil && ok {
			shown = s
		} else if ctx.Err() != nil {
			o.end()
			return shown, opening{}, context.Cause(ctx)
		}
	}
	return shown, o, nil
}

// known returns what is presented, false before the first answer.
func (a *authorizer) known() (pass, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now, a.answered
}

// answer makes the pass that a challenge wants in place of one that was shown. It is false
// if there is none, or no other.
func (a *authorizer) answer(ctx context.Context, shown pass, ch *gcr.Challenge) (pass, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now.header != shown.header {
		return a.now, true, nil // somebody else has asked meanwhile
	}
	cred, err := a.lookUp(ctx)
	if err != nil {
		return pass{}, false, err
	}
	next := pass{way: ch}
	switch {
	case strings.EqualFold(ch.Scheme, "basic"):
		next.header = basicHeader(cred)
	case !strings.EqualFold(ch.Scheme, "bearer"):
	case cred.Auth.RegistryToken != "":
		next.header = "Bearer " + cred.Auth.RegistryToken
	case lastingRefusal(shown, ch):
	default:
		if err := a.token(ctx, &next, shown, cred); err != nil {
			return pass{}, false, err
		}
	}
	if next.header == "" || next.header == shown.header {
		return pass{}, false, nil
	}
	a.now = next
	return next, true, nil
}

// lastingRefusal reports whether a token with the same rights would be refused again (RFC
// 6750, section 3.1).
func lastingRefusal(shown pass, ch *gcr.Challenge) bool {
	return ch.Parameters["error"] == "insufficient_scope" && sameServer(shown.way, ch) &&
		covers(shown.asked, strings.Fields(ch.Parameters["scope"]))
}

// lookUp finds the credential, once. mu is held.
func (a *authorizer) lookUp(ctx context.Context) (credentials.Credential, error) {
	if a.cred == nil {
		cred, err := a.pool.o.Credentials.Get(ctx, a.ep.Host, a.ep.Repo)
		if err != nil {
			return cred, fmt.Errorf("find credentials for %s: %w", a.ep.Host, err)
		}
		a.cred = &cred
	}
	return *a.cred, nil
}

func basicHeader(cred credentials.Credential) string {
	switch {
	case cred.Auth.RegistryToken != "":
		return "Bearer " + cred.Auth.RegistryToken
	case cred.Auth.Username == "" || cred.Auth.Password == "":
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.Auth.Username+":"+cred.Auth.Password))
}

// credential is what was looked for, for messages.
func (a *authorizer) credential() credentials.Credential {
	if a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.cred != nil {
			return *a.cred
		}
	}
	return credentials.Credential{About: "none"}
}

// asked reports whether the repository has asked for a login.
func (a *authorizer) asked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cred != nil
}

func (a *authorizer) lacks(scope string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused && !covers(a.scopes, []string{scope})
}
