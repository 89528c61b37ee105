package reapi

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"slices"
	"strings"
	"unicode"

	"layered.build/builder/registry/grpc"
)

var (
	// errReadOnly says that this client may only read.
	errReadOnly = errors.New("the server lets this client only read")
	// errDamaged says that a server has other bytes than it should.
	errDamaged = errors.New("its content is another one")
)

// failure is what a server said, after the name of its code. NOT_FOUND matches
// fs.ErrNotExist. It holds no credentials.
type failure struct {
	code grpc.Code
	text string
	err  error
}

// Error implements error.
func (f *failure) Error() string {
	text := f.code.String() + ": " + f.text
	switch f.code {
	case grpc.Unauthenticated:
		text += " (credentials are given as header=authorization=…, in $" + headersVariable + ", or as cert and key)"
	case grpc.PermissionDenied:
		text += " (who may read only can still use --cache-from; other credentials are given as header=authorization=…)"
	}
	return text
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

// Is makes it match fs.ErrNotExist.
func (f *failure) Is(target error) bool { return target == fs.ErrNotExist && f.code == grpc.NotFound }

// explain makes a failure of what a server said, without what is secret.
func (p *Place) explain(err error) error {
	var f *failure
	if err == nil || grpc.CodeOf(err) == grpc.OK || errors.As(err, &f) {
		return err
	}
	text := err.Error()
	if s := (*grpc.Status)(nil); errors.As(err, &s) {
		text = p.secrets.plain(s.Text)
		err = &grpc.Status{Code: s.Code, Text: text, Pause: s.Pause}
	}
	return &failure{grpc.CodeOf(err), text, err}
}

// isPassing reports whether the same may succeed a moment later. Silence was waited for
// long enough.
func isPassing(err error) bool {
	switch grpc.CodeOf(err) {
	case grpc.Unavailable, grpc.ResourceExhausted, grpc.Aborted, grpc.Internal, grpc.Unknown, grpc.Canceled, grpc.DeadlineExceeded:
		return true
	case grpc.OK: // it is the connection's
		var source *sourceError
		var untrusted *tls.CertificateVerificationError
		var alert *net.OpError
		return !errors.Is(err, grpc.ErrSilent) && !errors.As(err, &source) && !errors.As(err, &untrusted) &&
			(!errors.As(err, &alert) || alert.Op != "remote error") // which is TLS's: the server does not trust this client
	}
	return false
}

// sourceError is a failure to read what is to be sent.
type sourceError struct{ err error }

// Error implements error.
func (e *sourceError) Error() string { return "read it: " + e.err.Error() }

// Unwrap returns the cause.
func (e *sourceError) Unwrap() error { return e.err }

// secrets are words that no error may hold, longest first.
type secrets []string

// add adds the value of a header, the words in it ("Bearer TOKEN"), and what words are the
// base64 of ("Basic …"). What is shorter than 4 bytes is no secret.
func (s *secrets) add(value string) {
	words := append([]string{value}, strings.Fields(value)...)
	for _, w := range words[1:] {
		if b, err := base64.StdEncoding.DecodeString(w); err == nil {
			_, password, _ := strings.Cut(string(b), ":")
			words = append(words, string(b), password)
		}
	}
	for _, w := range words {
		if len(w) >= 4 && !slices.Contains(*s, w) && !strings.EqualFold(w, "Bearer") && !strings.EqualFold(w, "Basic") {
			*s = append(*s, w)
		}
	}
	slices.SortStableFunc(*s, func(a, b string) int { return len(b) - len(a) })
}

// maxText is how much of a server's words is told.
const maxText = 300

// plain is a text of a server for an error: one line, not long, without secrets.
func (s secrets) plain(text string) string {
	for _, w := range s {
		text = strings.ReplaceAll(text, w, "***")
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
