package transport

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"layered.build/builder/fixtures"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/routing"
)

// nobody has no credentials.
type nobody struct{}

// Get implements credentials.Source.
func (nobody) Get(context.Context, string, string) (credentials.Credential, error) {
	return credentials.Credential{}, nil
}

// TestTogether makes requests at once to a host of which nothing is known: they wait for the
// answer to the first, and not for each other afterwards.
func TestTogether(t *testing.T) {
	const all = 8
	for name, schemes := range map[string][]string{"one scheme": {"http"}, "either": {"https", "http"}} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			others := make(chan struct{}) // closed when all but the first are here
			come := sync.OnceFunc(func() { close(others) })
			s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				switch asked.Add(1) {
				case 1:
					return
				case all:
					come()
				}
				<-others
			}))
			defer s.Close()
			ctx, cancel := context.WithTimeout(t.Context(), fixtures.Patience)
			defer cancel()
			p := NewPool(Options{Credentials: nobody{}})
			session, err := p.Open(routing.Endpoint{Host: strings.TrimPrefix(s.URL, "http://"), Repo: "app", Schemes: schemes}, "push,pull")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range all {
				wg.Go(func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodHead, session.URL("/blobs/x"), nil)
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := session.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				})
			}
			wg.Wait()
			come() // the server waits for its requests, also for those that were given up
		})
	}
}
