package actions

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures/actionscache"
)

// noSecrets fails the test if an error shows a credential.
func noSecrets(t *testing.T, err error, token string) {
	t.Helper()
	_, signature, _ := strings.Cut(token, ".")
	for _, form := range []string{err.Error(), fmt.Sprintf("%+v", err)} {
		for _, secret := range []string{token, signature, "Bearer e", "sig=abc"} {
			if strings.Contains(form, secret) {
				t.Errorf("%q is in %s", secret, form)
			}
		}
	}
}

type answer func(w http.ResponseWriter, r *http.Request)

func always(a answer) func(int, http.ResponseWriter, *http.Request) bool {
	return func(_ int, w http.ResponseWriter, r *http.Request) bool { a(w, r); return true }
}

func TestFaults(t *testing.T) {
	tok := token()
	for _, c := range []struct {
		name   string
		answer answer
		want   string
	}{
		{"denied", func(w http.ResponseWriter, r *http.Request) {
			actionscache.Refuse(w, 401, "unauthenticated", "bad token "+r.Header.Get("Authorization"))
		}, "401 Unauthorized: unauthenticated: bad token"},
		{"no such service", func(w http.ResponseWriter, _ *http.Request) {
			actionscache.Refuse(w, 404, "bad_route", "no handler")
		}, "is there a cache service of version 2 at 127.0.0.1"},
		{"500", func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("Authorization"), 500) }, "500 Internal Server Error"},
		{"429", func(w http.ResponseWriter, _ *http.Request) {
			actionscache.Refuse(w, 429, "resource_exhausted", "slow down")
		}, "429 Too Many Requests: resource_exhausted: slow down"},
		{"no", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"ok":true,"signed_download_url":"","matched_key":"x","message":"sig=abcdef"}`)
		}, "the answer has no address"},
		{"address", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"ok":true,"signed_upload_url":"file:///x?sig=abcdef","signed_download_url":"file:///x?sig=abcdef","matched_key":"`+numbered(indexName(branch, ""), 1)+`"}`)
		}, "the signed address is no URL"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://elsewhere.test/?sig=abcdef")
			w.WriteHeader(302)
		}, "302 Found"},
		{"web page", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>"+r.Header.Get("Authorization"))
		}, "web page"},
		{"text", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Authorization")) }, "the answer is no JSON"},
		{"cut", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "ends too early"},
		{"truncated", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"ok":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "ends too early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := quick
			s.Retry.Attempts = 3
			p := open(t, s, serve(t, &actionscache.Server{Fault: always(c.answer)}), tok).(*Place)
			p.entries.api.client.Retry.Total = 100 * time.Millisecond
			_, _, err := p.Index(t.Context(), "")
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("index: got %v, want %q", err, c.want)
			}
			noSecrets(t, err, tok)
			b := sharedtest.NewBlob([]byte("b"))
			errs := []error{p.Store(t.Context(), b, sharedtest.Content([]byte("b"))), p.Replace(t.Context(), "", nil, nil, "")}
			_, err = p.Open(t.Context(), b, 0)
			errs = append(errs, err)
			for i, err := range errs {
				if err == nil {
					t.Errorf("%d: no error", i)
					continue
				}
				noSecrets(t, err, tok)
			}
		})
	}
}

// What the service refuses with a message, with a status that says that all is well, is said.
func TestRefused(t *testing.T) {
	s := &actionscache.Server{Fault: func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "CreateCacheEntry") {
			return false
		}
		fmt.Fprint(w, `{"ok":false,"message":"the cache is full, sig=abcdef"}`)
		return true
	}}
	p := open(t, quick, serve(t, s), token())
	for _, err := range []error{
		p.Replace(t.Context(), "", nil, nil, ""), p.Store(t.Context(), sharedtest.NewBlob([]byte("b")), sharedtest.Content([]byte("b"))),
	} {
		if err == nil || !strings.Contains(err.Error(), "the cache is full, sig=***") {
			t.Errorf("got %v", err)
		}
	}
}

// Limits of requests are waited for, also many times.
func TestThrottled(t *testing.T) {
	s := &actionscache.Server{Fault: func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n%9 == 0 {
			return false
		}
		actionscache.Refuse(w, 429, "resource_exhausted", "slow down")
		return true
	}}
	p := open(t, quick, serve(t, s), token())
	if _, _, err := p.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) || s.Requests() != 9 {
		t.Errorf("%v after %d requests", err, s.Requests())
	}
}

// Answers that are lost, and broken connections, do no harm.
func TestLostAnswers(t *testing.T) {
	inner := &actionscache.Server{}
	var lost sync.Map
	s := &actionscache.Server{Fault: func(_ int, w http.ResponseWriter, r *http.Request) bool {
		op := r.Method + r.URL.Path + r.URL.Query().Get("comp") + r.URL.Query().Get("blockid")
		rec := w
		if _, again := lost.LoadOrStore(op, true); !again {
			rec = nowhere{http.Header{}}
		}
		inner.ServeHTTP(rec, r)
		if rec != w {
			panic(http.ErrAbortHandler)
		}
		return true
	}}
	p := open(t, quick, serve(t, s), token())
	if err := p.Replace(t.Context(), "", []byte("index"), nil, ""); err != nil {
		t.Fatal(err)
	}
	if got, _, err := p.Index(t.Context(), ""); string(got) != "index" {
		t.Errorf("got %q, %v", got, err)
	}
	store(t, p, strings.Repeat("0123456789", 300_000))
}

// nowhere is an answer that nobody gets.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

// An index whose transfer breaks off is asked for again, a few times.
func TestCutIndex(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	p := open(t, quick, url, token())
	if err := p.Replace(t.Context(), "", []byte("0123456789"), nil, ""); err != nil {
		t.Fatal(err)
	}
	cuts := 2
	s.SetFault(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || cuts == 0 {
			return false
		}
		cuts--
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "01234")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if got, _, err := p.Index(t.Context(), ""); string(got) != "0123456789" {
		t.Errorf("got %q, %v", got, err)
	}
	cuts = 3
	if got, _, err := p.Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "ends too early") {
		t.Errorf("got %q, %v", got, err)
	}
}

// An address that has ended is asked for again, once.
func TestEndedAddress(t *testing.T) {
	s := &actionscache.Server{}
	url := serve(t, s)
	p := open(t, quick, url, token())
	b := store(t, p, "a blob")
	if missing, err := p.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) != 0 {
		t.Fatal(missing, err)
	}
	refusals := 0
	s.SetFault(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || refusals > 0 {
			return false
		}
		refusals++
		actionscache.RefuseBlob(w, r, 403, "AuthenticationFailed")
		return true
	})
	if got := content(p, t, b); got != "a blob" || refusals != 1 {
		t.Errorf("got %q after %d refusals", got, refusals)
	}
	s.SetFault(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet {
			return false
		}
		refusals++
		actionscache.RefuseBlob(w, r, 403, "AuthenticationFailed")
		return true
	})
	if got := content(p, t, b); !strings.Contains(got, "403 Forbidden") || strings.Contains(got, "sig=") && !strings.Contains(got, "sig=***") || refusals != 3 {
		t.Errorf("got %q after %d refusals", got, refusals)
	}
}

// A token that has ended is named as the reason.
func TestEndedToken(t *testing.T) {
	p := open(t, quick, serve(t, &actionscache.Server{}), actionscache.Token(-time.Minute, actionscache.Scope{Scope: branch, Permission: 3}))
	if _, _, err := p.Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "the token ended at") {
		t.Errorf("got %v", err)
	}
}

// A service that says nothing ends in bounded time.
func TestSilent(t *testing.T) {
	stop := make(chan struct{})
	s := &actionscache.Server{Fault: always(func(http.ResponseWriter, *http.Request) { <-stop })}
	url := serve(t, s)
	defer close(stop)
	impatient := quick
	impatient.Timeouts = object.Timeouts{Idle: 200 * time.Millisecond}
	p := open(t, impatient, url, token())
	_, _, err := p.Index(t.Context(), "")
	for _, err := range []error{err, p.Replace(t.Context(), "", nil, nil, "")} {
		if err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("got %v", err)
		}
	}
	if s.Requests() > 4 {
		t.Errorf("%d requests", s.Requests())
	}
}
