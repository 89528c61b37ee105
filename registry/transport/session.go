package transport

import (
	"errors"
	"fmt"
	"net/http"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

// Session is an authenticated way to one repository. It is safe for concurrent use.
type Session struct {
	ep     routing.Endpoint
	scheme string
	cred   credentials.Credential
	client *http.Client
}

// Do makes a request with the session's credentials. It follows redirects. The caller
// closes the body of the response.
func (s *Session) Do(req *http.Request) (*http.Response, error) { return s.client.Do(req) }

// URL returns an address below the repository; the path begins with a slash.
func (s *Session) URL(path string) string {
	return s.scheme + "://" + s.ep.Host + "/v2/" + s.ep.Repo + path
}

// Fail turns the failure of a request into an *errdef.Error; see the function Fail.
func (s *Session) Fail(op, object string, err error) error {
	return Fail(s.ep.Host, s.cred, op, object, err)
}

// checkRedirect follows redirects (registries send blobs from elsewhere), but
// not from https to http: nobody could vouch for the answer.
func (s *Session) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if s.scheme == "https" && req.URL.Scheme != "https" && !s.ep.SkipVerify {
		return fmt.Errorf("redirect from https to %s", req.URL.Scheme)
	}
	return nil
}
