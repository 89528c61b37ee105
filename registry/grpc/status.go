package grpc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Code is the code of a status (google.golang.org/grpc/codes).
type Code int

// The codes. OK is that of success, which is no error.
const (
	OK Code = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// String is the name of the code in the specification.
func (c Code) String() string {
	if c >= 0 && int(c) < len(codeNames) {
		return codeNames[c]
	}
	return strconv.Itoa(int(c))
}

// Status is a call's failure, in the server's words.
type Status struct {
	Code Code
	Text string
	// Pause is how long the server wants to be left alone; 0: it does not say.
	Pause time.Duration
}

// Error implements error.
func (s *Status) Error() string { return s.Text }

// ErrNotGRPC is the error for servers of something else.
var ErrNotGRPC = errors.New("it does not answer as a gRPC service does")

// ErrSilent is the error for servers that do not answer in time.
var ErrSilent = errors.New("no answer in time")

// HTTPError is an answer that is not one of gRPC: a proxy's, or that of a server of
// something else. It matches ErrNotGRPC.
type HTTPError struct {
	Code   int
	Status string // the code and its words
}

// Error implements error.
func (e *HTTPError) Error() string { return e.Status + ": " + ErrNotGRPC.Error() }

// Is makes it match ErrNotGRPC.
func (e *HTTPError) Is(target error) bool { return target == ErrNotGRPC }

// CodeOf is the code of an error's status, or what takes its place if HTTP's status is all
// there is (grpc/grpc, "http-grpc-status-mapping.md"). It is OK for any other error, also
// nil.
func CodeOf(err error) Code {
	if s := (*Status)(nil); errors.As(err, &s) {
		return s.Code
	}
	if h := (*HTTPError)(nil); errors.As(err, &h) {
		switch h.Code {
		case http.StatusBadRequest:
			return Internal
		case http.StatusUnauthorized:
			return Unauthenticated
		case http.StatusForbidden:
			return PermissionDenied
		case http.StatusNotFound:
			return Unimplemented
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return Unavailable
		}
		return Unknown
	}
	return OK
}

// status is how a call ended, which the trailer says, or the header if there is
// nothing else; io.EOF is success.
func status(resp *http.Response) error {
	from := resp.Trailer
	if from.Get("Grpc-Status") == "" {
		from = resp.Header
	}
	code, err := strconv.Atoi(from.Get("Grpc-Status"))
	if err != nil {
		return fmt.Errorf("%w: no status", ErrNotGRPC)
	}
	if code == 0 {
		return io.EOF
	}
	text, err := url.PathUnescape(from.Get("Grpc-Message"))
	if err != nil {
		text = from.Get("Grpc-Message")
	}
	if text == "" {
		text = "gRPC status " + strconv.Itoa(code)
	}
	return &Status{Code: Code(code), Text: text, Pause: pause(from)}
}

// pause is how long a server wants to be left alone: a google.rpc.RetryInfo among the
// details of the status, or what gRPC's own retries look at.
func pause(from http.Header) time.Duration {
	if ms, err := strconv.Atoi(from.Get("Grpc-Retry-Pushback-Ms")); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(from.Get("Grpc-Status-Details-Bin"), "="))
	if err != nil {
		return 0
	}
	var out time.Duration
	each := func(f Field) error { // of google.rpc.Status
		if f.Number != 3 {
			return nil
		}
		var kind string
		var info []byte
		err := Read(f.Bytes, func(f Field) error { // of google.protobuf.Any
			switch f.Number {
			case 1:
				kind = string(f.Bytes)
			case 2:
				info = f.Bytes
			}
			return nil
		})
		if err != nil || !strings.HasSuffix(kind, "/google.rpc.RetryInfo") {
			return err
		}
		out, err = retryDelay(info)
		return err
	}
	if Read(raw, each) != nil {
		return 0
	}
	return out
}

// retryDelay reads a google.rpc.RetryInfo, whose only field is a google.protobuf.Duration.
func retryDelay(info []byte) (out time.Duration, err error) {
	err = Read(info, func(f Field) error {
		if f.Number != 1 {
			return nil
		}
		return Read(f.Bytes, func(f Field) error {
			switch f.Number {
			case 1:
				out += time.Duration(min(f.Varint, 1<<30)) * time.Second
			case 2:
				out += time.Duration(min(f.Varint, 1<<30))
			}
			return nil
		})
	})
	return out, err
}
