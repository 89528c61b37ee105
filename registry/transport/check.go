package transport

import (
	"context"
	"net/http"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

// CheckLogin asks a host, of which the endpoint names no repository, whether it takes what
// the pool's credentials are. It is false, which is no failure, if the host does not want
// to know.
func (p *Pool) CheckLogin(ctx context.Context, ep routing.Endpoint) (bool, error) {
	s, err := p.open(ep, nil, nil)
	if err != nil {
		return false, err
	}
	err = p.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.prefix()+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := s.Do(req)
		if err != nil {
			return s.Fail("log in", "", err)
		}
		defer Drain(resp)
		if resp.StatusCode == http.StatusOK || !s.auth.asked() && resp.StatusCode < http.StatusInternalServerError {
			return nil
		}
		return s.Fail("log in", "", ResponseError(resp))
	})
	return err == nil && s.auth.asked(), err
}

// Given is a Source of one credential, for all registries.
type Given credentials.Credential

// Get implements credentials.Source.
func (g Given) Get(context.Context, string, string) (credentials.Credential, error) {
	return credentials.Credential(g), nil
}
