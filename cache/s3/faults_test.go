package s3

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// noSecrets fails the test if an error, or one behind it, shows a credential.
func noSecrets(t *testing.T, err error) {
	t.Helper()
	for _, form := range []string{err.Error(), fmt.Sprintf("%+v", err)} {
		for _, secret := range []string{testID, testSecret, testToken, "Signature=A", "AWS4-HMAC"} {
			if strings.Contains(form, secret) {
				t.Errorf("%q is in %s", secret, form)
			}
		}
	}
}

func TestNoCredentialsInErrors(t *testing.T) {
	leaks := "Signature=0123456789abcdef&X-Amz-Credential=" + testID + "%2F20260101, " + testSecret + " " + testToken
	for _, c := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		{"denied", func(w http.ResponseWriter, r *http.Request) { refuse(w, r, 403, "SignatureDoesNotMatch") }, "403 Forbidden"},
		{"plain text", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, leaks, 400) }, "400 Bad Request"},
		{"in the code", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", testSecret)
		}, "400 Bad Request"},
		{"redirect", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://elsewhere.test/?X-Amz-Signature=A"+testSecret)
			w.WriteHeader(307)
		}, "307 Temporary Redirect"},
		{"another region", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "us-test-9")
			w.WriteHeader(301)
		}, "the bucket is in region us-test-9, not eu-test-1"},
		{"web page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<html>"+leaks)
		}, "web page"},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprint(c, leaks+"\r\n\r\n")
			c.Close()
		}, ""},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
		}, "ends too early"},
		{"bucket", func(w http.ResponseWriter, r *http.Request) { refuse(w, r, 404, "NoSuchBucket") }, "NoSuchBucket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{fault: func(_ int, w http.ResponseWriter, r *http.Request) bool { c.answer(w, r); return true }}
			s := newFake(t, f)
			p := open(t, quick, s.URL, "")
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

func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	_, _, err := open(t, quick, s.URL, "").Index(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("got %v", err)
	}
	noSecrets(t, err)
}

func TestRetry(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var last time.Time
			var pauses []time.Duration
			f := &fake{}
			f.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				pauses, last = append(pauses, time.Since(last)), time.Now()
				if n%3 == 0 {
					return false
				}
				w.Header().Set("Retry-After", "1") // shortened to MaxWait
				refuse(w, r, status, "SlowDown")
				return true
			}
			s := newFake(t, f)
			p := open(t, quick, s.URL, ",retry_mode=adaptive")
			b := sharedtest.NewBlob([]byte("b"))
			if err := p.Store(t.Context(), b, sharedtest.Content([]byte("b"))); err != nil {
				t.Fatal(err)
			}
			if missing, err := p.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) != 0 {
				t.Errorf("missing %v, %v", missing, err)
			}
			r, err := p.Open(t.Context(), b, 0)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			if f.count() != 9 {
				t.Errorf("%d requests", f.count())
			}
			for i, d := range pauses {
				if i%3 != 0 && d < 20*time.Millisecond {
					t.Errorf("request %d came %v after it was asked to wait", i, d)
				}
			}
			// In the end it gives up.
			f.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				refuse(w, r, status, "SlowDown")
				return true
			}
			f.reset()
			if _, _, err := open(t, quick, s.URL, ",retry_max_attempts=3").Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("got %v", err)
			}
			if f.count() != 3 {
				t.Errorf("%d attempts", f.count())
			}
		})
	}
}

// What is refused for good is asked once.
func TestNoRetry(t *testing.T) {
	f := &fake{fault: func(_ int, w http.ResponseWriter, r *http.Request) bool {
		refuse(w, r, 403, "AccessDenied")
		return true
	}}
	s := newFake(t, f)
	if _, _, err := open(t, quick, s.URL, "").Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "credentials of the options") {
		t.Errorf("got %v", err)
	}
	if f.count() != 1 {
		t.Errorf("%d requests", f.count())
	}
}

// cut sends so many bytes of an answer that is longer.
func cut(w http.ResponseWriter, data string) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)+10))
	fmt.Fprint(w, data)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestTruncated(t *testing.T) {
	const data = "0123456789"
	b := sharedtest.NewBlob([]byte(data + data))
	f := &fake{}
	s := newFake(t, f)
	p := open(t, quick, s.URL, "")
	if err := p.Replace(t.Context(), "", []byte("index"), nil, ""); err != nil {
		t.Fatal(err)
	}
	f.reset()
	f.fault = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "manifests") && n > 2 {
			return false
		}
		cut(w, data)
		return true
	}
	// An index is read again from its beginning.
	if got, _, err := p.Index(t.Context(), ""); err != nil || string(got) != "index" {
		t.Errorf("got %q, %v", got, err)
	}
	// A blob is not: who reads it goes on where it broke.
	r, err := p.Open(t.Context(), b, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if string(got) != data || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", got, err)
	}
	noSecrets(t, err)
}

// A service that says nothing ends in bounded time, before its answer and within it.
func TestSilent(t *testing.T) {
	stop := make(chan struct{})
	f := &fake{}
	f.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "blobs") && r.Method == http.MethodGet {
			w.Header().Set("Content-Length", "20")
			fmt.Fprint(w, "01234")
			w.(http.Flusher).Flush()
		}
		<-stop
		return true
	}
	s := newFake(t, f)
	defer close(stop)
	p := open(t, impatient, s.URL, "")
	begin := time.Now()
	if _, _, err := p.Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("got %v", err)
	}
	data := []byte("01234567890123456789")
	r, err := p.Open(t.Context(), sharedtest.NewBlob(data), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); len(got) != 5 || err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("got %q, %v", got, err)
	}
	if err := p.Store(t.Context(), sharedtest.NewBlob(data), sharedtest.Content(data)); err == nil {
		t.Error("stored")
	}
	if f.count() > 5 || time.Since(begin) > time.Minute {
		t.Errorf("%d requests in %v", f.count(), time.Since(begin))
	}
}

// An upload that moves, however slowly, is not given up; nor is a service that takes long
// but says something.
func TestSlow(t *testing.T) {
	f := &fake{}
	f.fault = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("ETag", `"slow"`)
		w.Header().Set("Content-Length", "12")
		for range 6 {
			fmt.Fprint(w, "ab")
			w.(http.Flusher).Flush()
			time.Sleep(impatient.Timeouts.Idle / 2)
		}
		return true
	}
	s := newFake(t, f)
	if got, _, err := open(t, impatient, s.URL, "").Index(t.Context(), ""); err != nil || len(got) != 12 {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSkewedClock(t *testing.T) {
	for _, skew := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
		f := &fake{skew: skew}
		s := newFake(t, f)
		p := open(t, quick, s.URL, "")
		// The answer to HEAD has no code.
		if missing, err := p.Missing(t.Context(), []shared.Blob{sharedtest.NewBlob([]byte("b"))}); err != nil || len(missing) != 1 {
			t.Errorf("%v: missing %v, %v", skew, missing, err)
		}
		if err := p.Replace(t.Context(), "", []byte("index"), nil, ""); err != nil {
			t.Errorf("%v: %v", skew, err)
		}
		if f.count() != 4 { // one was repeated, and one tried conditions
			t.Errorf("%v: %d requests", skew, f.count())
		}
	}
}

// Requests that are under way when another one finds out that the clock is wrong are signed
// anew, too.
func TestSkewedClockOfMany(t *testing.T) {
	var together sync.WaitGroup
	const many = 8
	together.Add(many)
	f := &fake{skew: 25 * time.Hour}
	f.fault = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		if n <= many {
			together.Done()
			together.Wait()
		}
		return false
	}
	s := newFake(t, f)
	var blobs []shared.Blob
	for i := range many {
		blobs = append(blobs, sharedtest.NewBlob([]byte{byte(i)}))
	}
	if missing, err := open(t, quick, s.URL, "").Missing(t.Context(), blobs); err != nil || len(missing) != many {
		t.Errorf("missing %d, %v", len(missing), err)
	}
}

// A clock that is right, and keys that are not, do not make a loop.
func TestWrongKeys(t *testing.T) {
	f := &fake{}
	s := newFake(t, f)
	a, err := shared.ParseAttrs("type=s3,bucket=" + testBucket + ",region=eu-test-1,endpoint_url=" + s.URL + ",access_key_id=" + testID + ",secret_access_key=another-secret")
	if err != nil {
		t.Fatal(err)
	}
	p, err := quick.New(a, none)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = p.Index(t.Context(), "")
	var failure *object.Failure
	if !errors.As(err, &failure) || failure.Code != "SignatureDoesNotMatch" || f.count() != 1 {
		t.Errorf("got %v after %d requests", err, f.count())
	}
}
