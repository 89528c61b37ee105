package object

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Failure is a request that failed. It holds no credentials.
type Failure struct {
	// Op and Object say what was asked: "put", "blobs/sha256:…".
	Op, Object string
	// Status is that of HTTP, 0 if there was no answer.
	Status int
	// Code is the service's name of the error, "" if it gave none.
	Code string

	text       string
	retryAfter time.Duration // what the service asks to wait, 0: nothing
	header     http.Header   // of the answer
	err        error         // if there was no answer, or a broken one
}

// Error implements error.
func (f *Failure) Error() string {
	s := f.Op + " " + f.Object + ": "
	if f.err != nil {
		return s + f.text
	}
	s += strconv.Itoa(f.Status) + " " + http.StatusText(f.Status)
	for _, part := range []string{f.Code, f.text} {
		if part != "" {
			s += ": " + part
		}
	}
	return s
}

// Unwrap returns why there was no answer.
func (f *Failure) Unwrap() error { return f.err }

// Is makes fs.ErrNotExist of an object that is not there. A bucket that is not there is
// another matter.
func (f *Failure) Is(target error) bool {
	return target == fs.ErrNotExist && f.Status == http.StatusNotFound && f.Code != "NoSuchBucket"
}

// passing reports whether a failure may go away by itself.
func (f *Failure) passing() bool {
	switch f.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case 0:
	default:
		return f.Code == "RequestTimeout" // S3 says so with a 400
	}
	var dns *net.DNSError
	if errors.As(f.err, &dns) {
		return !dns.IsNotFound
	}
	var ne net.Error
	return errors.Is(f.err, io.EOF) || errors.Is(f.err, io.ErrUnexpectedEOF) || errors.Is(f.err, syscall.ECONNRESET) ||
		errors.Is(f.err, syscall.EPIPE) || errors.As(f.err, &ne)
}

// silent reports whether the service did not answer in time: waiting again costs as much.
func (f *Failure) silent() bool {
	var ne net.Error
	return errors.As(f.err, &ne) && ne.Timeout()
}

// throttled reports whether the service asks for fewer requests.
func (f *Failure) throttled() bool {
	return f.Status == http.StatusTooManyRequests || f.Status == http.StatusServiceUnavailable
}

// maxText is how much of an answer that says no is read.
const maxText = 64 << 10

// refusal makes the failure of an answer that says no; it reads and closes the body.
func (c *Client) refusal(r Request, resp *http.Response) *Failure {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxText))
	resp.Body.Close()
	f := &Failure{Op: r.Op, Object: r.Object, Status: resp.StatusCode, header: resp.Header}
	f.Code, f.text = c.Service.Explain(resp, body)
	f.Code, f.text = c.plain(f.Code), c.plain(f.text)
	after := resp.Header.Get("Retry-After") // RFC 9110, section 10.2.3: seconds or a date
	if s, err := strconv.Atoi(after); err == nil && s > 0 {
		f.retryAfter = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		f.retryAfter = max(0, t.Sub(c.Clock.Now()))
	}
	return f
}

// broken makes the failure of a request without an answer, or with a broken one.
func (c *Client) broken(r Request, err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the URL, which may have a signature in it
	}
	f = &Failure{Op: r.Op, Object: r.Object, err: err, text: c.plain(err.Error())}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.text = "no answer: nothing was received for too long"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.text = "the answer ends too early"
	}
	return f
}

// plain is a text of others for an error: one line, not long, without credentials.
func (c *Client) plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, c.Secrets.Scrub(s))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// webPage is the failure of an answer that is no object but a page for people: some proxies
// answer so, with a status that says that all is well.
func (c *Client) webPage(r Request, resp *http.Response) *Failure {
	resp.Body.Close()
	text := fmt.Sprintf("%s answers with a web page; is there a proxy or a login on the way, or is the address wrong?",
		cmp.Or(r.URL.Host, "the service"))
	return &Failure{Op: r.Op, Object: r.Object, Status: resp.StatusCode, text: text, err: errWebPage}
}

var errWebPage = errors.New("a web page")
