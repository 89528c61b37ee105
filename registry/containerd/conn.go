package containerd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// The status codes of gRPC that matter here (google.golang.org/grpc/codes).
const (
	codeUnknown            = 2
	codeInvalidArgument    = 3
	codeNotFound           = 5
	codeAlreadyExists      = 6
	codeFailedPrecondition = 9
	codeUnavailable        = 14
)

// maxMessage bounds what containerd may answer in one message; its own bound.
const maxMessage = 16 << 20

// statusError is a call's failure, in containerd's words.
type statusError struct {
	code int
	text string
}

// Error implements error.
func (e *statusError) Error() string { return e.text }

// isCode reports whether an error is a status of containerd with the code.
func isCode(err error, code int) bool {
	var said *statusError
	return errors.As(err, &said) && said.code == code
}

// errNotGRPC is the error for sockets of something else.
var errNotGRPC = errors.New("it does not answer as a gRPC service does")

// conn makes gRPC calls over HTTP/2 without TLS on a unix socket (grpc/grpc,
// "PROTOCOL-HTTP2.md").
type conn struct {
	http      *http.Client
	namespace string
	lease     string // "" before there is one
}

// dial returns a conn for a socket; it connects with the first call.
func dial(socket, namespace string) *conn {
	tr := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &conn{http: &http.Client{Transport: tr}, namespace: namespace}
}

// close ends the connection.
func (c *conn) close() { c.http.CloseIdleConnections() }

// start sends the head of a call and waits for that of the answer.
func (c *conn) start(ctx context.Context, method string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://containerd/containerd.services."+method, body)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Content-Type":         {"application/grpc"},
		"Te":                   {"trailers"},
		"User-Agent":           {"builder"},
		"Containerd-Namespace": {c.namespace},
	}
	if c.lease != "" {
		req.Header["Containerd-Lease"] = []string{c.lease}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, transportError(err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %w", resp.Status, errNotGRPC)
	}
	return resp, nil
}

// transportError tells a socket that does not answer from one of something else.
func transportError(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var ne net.Error
	if errors.As(err, &ne) {
		return err
	}
	return fmt.Errorf("%w: %w", errNotGRPC, err)
}

// call makes a call with one message each way.
func (c *conn) call(ctx context.Context, method string, msg []byte) ([]byte, error) {
	resp, err := c.start(ctx, method, bytes.NewReader(frame(msg)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := receive(ctx, resp)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if err == nil { // the status comes after the message
		if _, err := receive(ctx, resp); err != io.EOF {
			return nil, errors.Join(err, errNotGRPC)
		}
		return answer, nil
	}
	return nil, fmt.Errorf("%w: a call without an answer", errNotGRPC)
}

// frame puts the head of a message before it: not compressed, and its length.
func frame(msg []byte) []byte {
	head := make([]byte, 5, 5+len(msg))
	binary.BigEndian.PutUint32(head[1:], uint32(len(msg)))
	return append(head, msg...)
}

// receive reads the next message of an answer; io.EOF is its end with success.
func receive(ctx context.Context, resp *http.Response) ([]byte, error) {
	var head [5]byte
	_, err := io.ReadFull(resp.Body, head[:])
	if err == io.EOF {
		return nil, status(resp)
	}
	if err == nil && (head[0] != 0 || binary.BigEndian.Uint32(head[1:]) > maxMessage) {
		return nil, fmt.Errorf("%w: a message with the head %x", errNotGRPC, head)
	}
	var msg []byte
	if err == nil {
		msg = make([]byte, binary.BigEndian.Uint32(head[1:]))
		_, err = io.ReadFull(resp.Body, msg)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("the connection broke: %w", err)
	}
	return msg, nil
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
		return fmt.Errorf("%w: no status", errNotGRPC)
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
	return &statusError{code: code, text: text}
}

// stream is a call with several messages both ways. Its methods are for one
// goroutine.
type stream struct {
	ctx  context.Context //nolint:containedctx // of the call, which the stream is
	body *io.PipeWriter
	head chan struct{} // closed when the answer has begun
	resp *http.Response
	err  error // why it has not; both are valid after head
}

// open begins a call. The caller closes the stream.
func (c *conn) open(ctx context.Context, method string) *stream {
	pr, pw := io.Pipe()
	s := &stream{ctx: ctx, body: pw, head: make(chan struct{})}
	go func() {
		defer close(s.head)
		s.resp, s.err = c.start(ctx, method, pr)
		if s.err != nil {
			pr.CloseWithError(s.err)
		}
	}()
	return s
}

// exchange sends a message and waits for one.
func (s *stream) exchange(msg []byte) ([]byte, error) {
	// What cannot be sent was refused, and the answer says why.
	_, werr := s.body.Write(frame(msg))
	<-s.head
	if s.err != nil {
		return nil, s.err
	}
	answer, err := receive(s.ctx, s.resp)
	if err == io.EOF {
		err = errors.Join(fmt.Errorf("%w: the call ended early", errNotGRPC), werr)
	}
	return answer, err
}

// close ends the call and waits for its goroutine. The context must be cancelled
// before if the call has not come to its end.
func (s *stream) close() {
	s.body.Close() //nolint:errcheck // never fails
	<-s.head
	if s.resp != nil {
		s.resp.Body.Close()
	}
}
