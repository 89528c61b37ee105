package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/routing"
)

// host is one registry as this process knows it.
type host struct {
	base *patient
	reg  name.Registry

	mu        sync.Mutex
	challenge *gcr.Challenge // guarded by mu; nil until the first answer
}

func (p *Pool) host(ep routing.Endpoint) (*host, error) {
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
		return nil, fmt.Errorf("registry %q: %w: %w", ep.Host, errdef.ErrInvalid, err)
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
	defer Drain(resp)
	if ch := challengeOf(resp); ch != nil {
		return ch, nil
	}
	return nil, ResponseError(resp)
}
