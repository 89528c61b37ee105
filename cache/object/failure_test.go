package object

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestScrub(t *testing.T) {
	var s Secrets
	s.Add("the+secret/key=", "", "abc")
	for text, want := range map[string]string{
		"with the+secret/key= in it":                                  "with *** in it",
		"?k=the%2Bsecret%2Fkey%3D&x=1":                                "?k=***&x=1",
		"https://h/c?sv=1&sig=ab%2Bc&se=2":                            "https://h/c?sv=1&sig=***&se=2",
		"Credential=x, SIGNATURE=0a1b; X-Amz-Security-Token=tok rest": "Credential=x, SIGNATURE=***; X-Amz-Security-Token=*** rest",
		"AccountKey=abc;EndpointSuffix=s":                             "AccountKey=***;EndpointSuffix=s",
		"Authorization: Bearer ey.x.y":                                "Authorization: Bearer ***",
		"abc is short":                                                "abc is short",
		"Signature=":                                                  "Signature=***",
	} {
		if got := s.Scrub(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		f     Failure
		once  bool
		tries int
	}{
		{"too many", Failure{Status: 429}, false, 5},
		{"server", Failure{Status: 500}, true, 5},
		{"not implemented", Failure{Status: 501}, false, 1},
		{"denied", Failure{Status: 403}, false, 1},
		{"S3's timeout", Failure{Status: 400, Code: "RequestTimeout"}, false, 5},
		{"cut", Failure{err: io.ErrUnexpectedEOF}, false, 5},
		{"cut, once", Failure{err: io.ErrUnexpectedEOF}, true, 1},
		{"nobody listens", Failure{err: syscall.ECONNREFUSED}, false, 2},
		{"web page", Failure{Status: 200, err: errWebPage}, false, 1},
	} {
		try := Retry{}.begin(c.once)
		tries := 1
		for wait := 200 * time.Millisecond; ; wait *= 2 {
			pause, ok := try.again(&c.f)
			if !ok {
				break
			}
			if pause < wait/2 || pause > wait {
				t.Errorf("%s: pause %d is %v", c.name, tries, pause)
			}
			tries++
		}
		if tries != c.tries {
			t.Errorf("%s: %d attempts, want %d", c.name, tries, c.tries)
		}
	}
	pause, ok := Retry{MaxWait: time.Second}.begin(false).again(&Failure{Status: 503, retryAfter: time.Hour})
	if !ok || pause != time.Second {
		t.Errorf("asked to wait for an hour: %v, %v", pause, ok)
	}
}

func TestClock(t *testing.T) {
	var c Clock
	date := func(d time.Duration) http.Header {
		return http.Header{"Date": {time.Now().Add(d).UTC().Format(http.TimeFormat)}}
	}
	if c.Learn(date(time.Minute)) || c.Learn(http.Header{}) || c.Learn(http.Header{"Date": {"soon"}}) {
		t.Error("learned what is no news")
	}
	if !c.Learn(date(24*time.Hour)) || time.Until(c.Now()) < 23*time.Hour {
		t.Errorf("it is %v", c.Now())
	}
	if c.Learn(date(24 * time.Hour)) {
		t.Error("learned the same again")
	}
	if !c.Learn(date(0)) || time.Until(c.Now()).Abs() > time.Minute {
		t.Errorf("it is %v", c.Now())
	}
}

func TestGate(t *testing.T) {
	var g gate
	begin := time.Now()
	g.shut(30 * time.Millisecond)
	if err := g.wait(t.Context()); err != nil || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	g.shut(time.Hour)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := g.wait(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestErrorName(t *testing.T) {
	for body, want := range map[string]string{
		`<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>`: "AccessDenied",
		`{"error":"invalid_client","error_description":"secret"}`:                 "invalid_client",
		`{"code":"NoRole","message":"secret"}`:                                    "NoRole",
		`{"error":"a secret"}`:                                                    "",
		`secret`:                                                                  "",
		`{"error":"` + strings.Repeat("x", 100) + `"}`:                            "",
	} {
		if got := errorName([]byte(body)); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}
