package transport

import (
	"context"
	"net/http"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// opening is a request that is made before it is known how a host wants to be
// talked to: where it needs no login, which mirrors and most local registries do
// not, the answer saves asking that first, and where it does, the refusal says how.
type opening struct {
	path, accept string // path below the repository

	resp *http.Response
}

// try makes the request. It returns no challenge if the answer does not say how
// the host wants to be talked to, and an error if there is no answer.
func (o *opening) try(ctx context.Context, rt http.RoundTripper, repo string) (*gcr.Challenge, error) {
	if o == nil || o.resp != nil {
		return nil, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, repo+o.path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", o.accept)
	resp, err := rt.RoundTrip(req) // redirects say nothing
	if err != nil {
		return nil, err
	}
	ch := challengeOf(resp)
	if resp.StatusCode == http.StatusOK {
		o.resp = resp
		return ch, nil
	}
	Drain(resp)
	if ch != nil && ch.Scheme == "" {
		return nil, nil
	}
	return ch, nil
}

// take returns the answer, once; nil if there is none.
func (o *opening) take() *http.Response {
	if o == nil {
		return nil
	}
	resp := o.resp
	o.resp = nil
	return resp
}

// close gives up an answer that nobody took.
func (o *opening) close() {
	if resp := o.take(); resp != nil {
		Drain(resp)
	}
}
