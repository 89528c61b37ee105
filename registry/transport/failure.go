package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	gcr "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/errdef"
)

// statusError is an answer that says no.
type statusError struct {
	status int
	// text is what the registry says, shortened.
	text string
	// retryAfter is what it asks to wait, 0 if nothing.
	retryAfter time.Duration
}

// Error implements error.
func (e *statusError) Error() string {
	s := strconv.Itoa(e.status) + " " + http.StatusText(e.status)
	if e.text != "" {
		s += ": " + e.text
	}
	return s
}

// ResponseError makes the error of a response that says no: it reads the registry's error document (distribution-spec, "Error
// Codes"); the caller closes the body.
func ResponseError(resp *http.Response) error {
	e := &statusError{status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	e.text = errorText(body)
	after := resp.Header.Get("Retry-After") // RFC 9110, section 10.2.3: seconds or a date
	if s, err := strconv.Atoi(after); err == nil && s > 0 {
		e.retryAfter = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		e.retryAfter = max(0, time.Until(t))
	}
	return e
}

func errorText(body []byte) string {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		var parts []string
		for _, d := range doc.Errors {
			parts = append(parts, strings.Trim(d.Code+": "+d.Message, ": "))
		}
		return shorten(strings.Join(parts, "; "))
	}
	text := strings.TrimSpace(string(body))
	if strings.HasPrefix(text, "<") {
		return "" // a proxy's page
	}
	return shorten(text)
}

func shorten(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}

// StatusOf returns the HTTP status of a failure, 0 if there was no answer.
func StatusOf(err error) int {
	var se *statusError
	if errors.As(err, &se) {
		return se.status
	}
	var te *gcr.Error
	if errors.As(err, &te) {
		return te.StatusCode
	}
	return 0
}

// IsPassing reports whether a failure may go away by itself.
func IsPassing(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errdef.ErrBadDigest) {
		return false
	}
	if status := StatusOf(err); status != 0 {
		return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return !dns.IsNotFound
	}
	if tlsProblem(err) != "" {
		return false
	}
	var ne net.Error
	var ue *url.Error
	return errors.Is(err, errStalled) || errors.Is(err, errBodyGone) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.As(err, &ne) || errors.As(err, &ue)
}

// tlsProblem returns what is wrong with a host's certificate or protocol, "" if
// it is neither.
func tlsProblem(err error) string {
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &verify), errors.As(err, &unknown):
		return "its certificate does not verify: put the authority into ~/.docker/certs.d/HOST/ca.crt (or below /etc/docker), or use --insecure-registry HOST"
	case errors.As(err, &record), strings.Contains(fmt.Sprint(err), "server gave HTTP response to HTTPS client"):
		return "it speaks http: use --insecure-registry HOST"
	case isAlert(err):
		return "it ended the connection: if it wants a client's certificate, put that (NAME.cert and NAME.key) into ~/.docker/certs.d/HOST"
	}
	return ""
}

// Fail turns the failure of a request to a host into an *errdef.Error without secrets. It
// returns nil, what is such an error already, and a cancellation as they are.
func Fail(host string, cred credentials.Credential, op, object string, err error) error {
	var done *errdef.Error
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &errdef.Error{Op: op, Object: object, Host: host, Status: StatusOf(err)}
	e.Err = &scrubbed{err: err, text: cred.Scrub(plainText(err))}
	switch {
	case errors.Is(err, errdef.ErrBadDigest):
		e.Kind = errdef.ErrBadDigest
		e.Hint = "the registry or a proxy on the way damages data; try another mirror"
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || isLogin(err) && e.Status != 0 && !IsPassing(err):
		e.Kind, e.Credentials = errdef.ErrUnauthorized, cred.About
		e.Hint = loginHint(host)
	case e.Status == http.StatusNotFound:
		e.Kind = errdef.ErrNotFound
	case e.Status == 0 && errors.Is(err, errdef.ErrInvalid):
		e.Kind = errdef.ErrInvalid
	case e.Status == 0 || IsPassing(err):
		e.Kind = errdef.ErrUnreachable
		e.Hint = strings.ReplaceAll(tlsProblem(err), "HOST", host)
		if e.Status == http.StatusTooManyRequests {
			e.Hint = "the registry limits how much may be fetched: log in, wait, or use a mirror (--registry-mirror)"
		}
	default:
		e.Kind = errdef.ErrRefused
	}
	return e
}

// isLogin reports whether it was a token server that failed.
func isLogin(err error) bool {
	var le *loginError
	return errors.As(err, &le)
}

func loginHint(host string) string {
	if host == "index.docker.io" {
		return "is the name right? Docker Hub answers so for repositories that do not exist; for a private one run `builder login`"
	}
	return "run `builder login " + host + "` (or docker login, podman login), or check that this user may use the repository"
}

// plainText describes a failure without the query strings of URLs: redirects
// carry signatures there.
func plainText(err error) string {
	var le *loginError
	if errors.As(err, &le) {
		return le.Error()
	}
	var te *gcr.Error
	if errors.As(err, &te) {
		var parts []string
		for _, d := range te.Errors {
			parts = append(parts, strings.Trim(string(d.Code)+": "+d.Message, ": "))
		}
		return strings.TrimSpace(fmt.Sprintf("%d %s %s", te.StatusCode, http.StatusText(te.StatusCode), shorten(strings.Join(parts, "; "))))
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		where := ue.URL
		if u, perr := url.Parse(where); perr == nil {
			u.RawQuery, u.User = "", nil
			where = u.String()
		}
		return fmt.Sprintf("%s %s: %s", ue.Op, where, plainText(ue.Err))
	}
	text, _, _ := strings.Cut(err.Error(), "no token in bearer response")
	if text != err.Error() {
		return text + "no token in the answer of the token server"
	}
	return text
}

// scrubbed shows a failure without secrets.
type scrubbed struct {
	err  error
	text string
}

// Error implements error.
func (e *scrubbed) Error() string { return e.text }

// Unwrap returns the failure itself.
func (e *scrubbed) Unwrap() error { return e.err }

// Drain ends a response that nobody reads, so that the connection can be used again.
func Drain(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}
