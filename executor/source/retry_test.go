package source

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"layered.build/builder/planner/dag"
)

// What fails for a passing reason is asked again, as often as is wanted; what lasts is not.
func TestRetry(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(code)
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, tc := range map[string]struct {
		fail     http.HandlerFunc
		times    int // how often it fails
		attempts int // 0: the default
		asked    int
		works    bool
	}{
		"busy for a while":    {status(503), 2, 0, 3, true},
		"too many requests":   {status(429), 1, 0, 2, true},
		"the default":         {status(500), 100, 0, 5, false},
		"often enough":        {status(502), 2, 3, 3, true},
		"not often enough":    {status(502), 2, 2, 2, false},
		"once":                {status(502), 1, 1, 1, false},
		"cut off":             {cut, 1, 0, 2, true},
		"not there":           {status(404), 1, 0, 1, false},
		"forbidden":           {status(403), 1, 0, 1, false},
		"never to be":         {status(501), 1, 0, 1, false},
		"nothing is answered": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 2, 0, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				if int(asked.Add(1)) <= tc.times {
					tc.fail(w, r)
					return
				}
				io.WriteString(w, "content")
			})
			r := newRemote(t, RemoteOptions{Retry: Retry{Attempts: tc.attempts, Wait: time.Millisecond, MaxWait: 2 * time.Millisecond}})
			got, err := r.Open(t.Context(), &dag.Source{HTTP: &dag.HTTPSource{URL: s.URL + "/f"}})
			if (err == nil) != tc.works || int(asked.Load()) != tc.asked {
				t.Fatalf("asked %d times, %v; want %d, %t", asked.Load(), err, tc.asked, tc.works)
			}
			if err != nil {
				return
			}
			if files := listFiles(t, got); len(files) != 1 || !strings.HasSuffix(files[0], "content") {
				t.Errorf("got %q", files)
			}
		})
	}
}

// git servers, too.
func TestRetryGit(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	r := newRemote(t, RemoteOptions{Retry: Retry{Attempts: 3, Wait: time.Millisecond}})
	_, err := r.Open(t.Context(), &dag.Source{Git: &dag.GitSource{Remote: s.URL + "/repo.git"}})
	var failed *GitError
	if !errors.As(err, &failed) || strings.Count(s.requests(), "/info/refs") != 3 {
		t.Errorf("%v", err)
	}
	_, err = r.Open(t.Context(), &dag.Source{Git: &dag.GitSource{Remote: "http://127.0.0.1:1/repo.git"}})
	if !errors.As(err, &failed) || !isRefused(err) || !isPassing(err) {
		t.Errorf("nobody listens: %v", err)
	}
}
