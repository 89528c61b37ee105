package azblob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

const testSAS = "sv=2021-08-06&se=2030-01-01&sig=c2lnbmF0dXJlIG9m%2BdGhlIHRlc3Rz"

// noSecrets fails the test if an error shows a credential.
func noSecrets(t *testing.T, err error) {
	t.Helper()
	for _, form := range []string{err.Error(), fmt.Sprintf("%+v", err)} {
		for _, secret := range []string{testKey, "c2lnbmF0dXJlIG9m", "SharedKey account:"} {
			if strings.Contains(form, secret) {
				t.Errorf("%q is in %s", secret, form)
			}
		}
	}
}

func TestNoCredentialsInErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		{"denied", func(w http.ResponseWriter, r *http.Request) { refuse(w, r, 403, "AuthenticationFailed") }, "403 Forbidden: AuthenticationFailed"},
		{"plain text", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, r.URL.String()+" "+r.Header.Get("Authorization"), 400)
		}, "400 Bad Request"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://elsewhere.test/?"+r.URL.RawQuery)
			w.WriteHeader(302)
		}, "302 Found"},
		{"web page", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>"+r.URL.String())
		}, "web page"},
		{"no HTTP", func(w http.ResponseWriter, r *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprint(c, r.URL.String()+"\r\n\r\n")
			c.Close()
		}, ""},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
		}, "ends too early"},
	} {
		for _, login := range []string{",secret_access_key=" + testKey, "?" + testSAS} {
			t.Run(c.name, func(t *testing.T) {
				f := &fake{fault: func(_ int, w http.ResponseWriter, r *http.Request) bool { c.answer(w, r); return true }}
				s := newFake(t, f)
				p := open(t, quick, "account_url="+s.URL+"/"+testAccount+login, nil)
				b := sharedtest.NewBlob([]byte("b"))
				_, _, err := p.Index(t.Context(), "")
				if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("index: got %v, want %q", err, c.want)
				}
				noSecrets(t, err)
				errs := []error{p.Store(t.Context(), b, sharedtest.Content([]byte("b"))), p.Replace(t.Context(), "", nil, nil, "")}
				_, err = p.Open(t.Context(), b, 0)
				for _, err := range append(errs, err) {
					if err == nil {
						t.Error("no error")
						continue
					}
					noSecrets(t, err)
				}
			})
		}
	}
}

func TestRetry(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		f := &fake{}
		f.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n%3 == 0 {
				return false
			}
			refuse(w, r, status, "ServerBusy")
			return true
		}
		s := newFake(t, f)
		p := open(t, quick, withKey(s), nil)
		if _, _, err := p.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) || f.count() != 3 {
			t.Errorf("%d: %v after %d requests", status, err, f.count())
		}
		f.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			refuse(w, r, status, "ServerBusy")
			return true
		}
		if _, _, err := p.Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "ServerBusy") || f.count() != 8 {
			t.Errorf("%d: %v after %d requests", status, err, f.count())
		}
	}
}

func TestTruncated(t *testing.T) {
	const data = "0123456789"
	f := &fake{fault: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "20")
		fmt.Fprint(w, data)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}}
	s := newFake(t, f)
	r, err := open(t, quick, withKey(s), nil).Open(t.Context(), sharedtest.NewBlob([]byte(data+data)), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if string(got) != data || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A service that says nothing ends in bounded time, before its answer and within it.
func TestSilent(t *testing.T) {
	stop := make(chan struct{})
	f := &fake{fault: func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "blobs") && r.Method == http.MethodGet {
			w.Header().Set("Content-Length", "20")
			fmt.Fprint(w, "01234")
			w.(http.Flusher).Flush()
		}
		<-stop
		return true
	}}
	s := newFake(t, f)
	defer close(stop)
	p := open(t, Settings{Timeouts: object.Timeouts{Idle: 200 * time.Millisecond}, Retry: quick.Retry}, withKey(s), nil)
	data := []byte("01234567890123456789")
	_, _, err := p.Index(t.Context(), "")
	for _, err := range []error{err, p.Store(t.Context(), sharedtest.NewBlob(data), sharedtest.Content(data))} {
		if err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("got %v", err)
		}
	}
	r, err := p.Open(t.Context(), sharedtest.NewBlob(data), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); len(got) != 5 || err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("read %q, %v", got, err)
	}
	if f.count() > 4 {
		t.Errorf("%d requests", f.count())
	}
}

// All requests that were signed by a wrong clock are signed again, also those that were
// under way when the first was refused.
func TestSkewedClock(t *testing.T) {
	for _, skew := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
		f := &fake{skew: skew}
		s := newFake(t, f)
		var blobs []shared.Blob
		for i := range 8 {
			blobs = append(blobs, sharedtest.NewBlob(fmt.Append(nil, i)))
		}
		if missing, err := open(t, quick, withKey(s), nil).Missing(t.Context(), blobs); err != nil || len(missing) != 8 {
			t.Errorf("%v: missing %d, %v", skew, len(missing), err)
		}
		if f.count() > 16 {
			t.Errorf("%v: %d requests", skew, f.count())
		}
	}
}
