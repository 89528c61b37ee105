package grpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Options say how to speak to a server. The zero value is HTTP/2 without TLS over TCP.
type Options struct {
	// Socket is the path of a unix socket to connect to, instead of the host.
	Socket string
	// TLS, unless nil, is how to encrypt.
	TLS *tls.Config
	// Header is the metadata that all calls have.
	Header map[string]string
	// Patience is how long the server may be silent: in a call with one message each way
	// until the answer is there, in a stream until a message is taken or comes. 0 is for
	// ever.
	Patience time.Duration
}

// Conn makes calls to one server. It is safe for concurrent use.
type Conn struct {
	http     *http.Client
	base     string
	header   map[string]string
	patience time.Duration
}

// dialTime bounds how long connecting takes. There are no pings: servers of gRPC's
// libraries end connections on which more of them come than they like.
const dialTime = 10 * time.Second

// New returns a Conn to a host, which is HOST:PORT; it connects with the first call. The
// caller closes it.
func New(host string, o Options) *Conn {
	tr := &http.Transport{
		DisableCompression: true, Protocols: new(http.Protocols), TLSClientConfig: o.TLS, TLSHandshakeTimeout: dialTime,
	}
	scheme := "http"
	if o.TLS != nil {
		scheme = "https"
		tr.Proxy = http.ProxyFromEnvironment
		tr.Protocols.SetHTTP2(true)
	} else {
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	dialer := &net.Dialer{Timeout: dialTime}
	tr.DialContext = dialer.DialContext
	if o.Socket != "" {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", o.Socket)
		}
	}
	return &Conn{http: &http.Client{Transport: tr}, base: scheme + "://" + host + "/", header: o.Header, patience: o.Patience}
}

// With returns a Conn on the same connection whose calls have one more piece of metadata.
func (c *Conn) With(key, value string) *Conn {
	d := *c
	d.header = map[string]string{key: value}
	for k, v := range c.header {
		if k != key {
			d.header[k] = v
		}
	}
	return &d
}

// Close ends the connection, as soon as no call uses it.
func (c *Conn) Close() { c.http.CloseIdleConnections() }

// start sends the head of a call and waits for that of the answer.
func (c *Conn) start(ctx context.Context, method string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+method, body)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"builder"}}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if until, ok := ctx.Deadline(); ok {
		// A little later than here, so that who waits is told what the context says.
		left := time.Until(until) + time.Second
		req.Header.Set("Grpc-Timeout", strconv.FormatInt(min(max(left.Milliseconds(), 1), 99999999), 10)+"m")
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
		return nil, &HTTPError{Code: resp.StatusCode, Status: resp.Status}
	}
	return resp, nil
}

// transportError tells a server that does not answer from one of something else.
func transportError(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var ne net.Error
	if errors.As(err, &ne) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotGRPC, err)
}

func isNotGRPC(err error) bool { return errors.Is(err, ErrNotGRPC) }

// Call makes a call with one message each way. The method is PACKAGE.SERVICE/METHOD. The
// error matches ErrSilent, or ErrNotGRPC, or is a *Status, or of the connection.
func (c *Conn) Call(ctx context.Context, method string, msg []byte) ([]byte, error) {
	if c.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.patience, silence(c.patience))
		defer cancel()
	}
	resp, err := c.start(ctx, method, bytes.NewReader(Frame(msg)))
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
			return nil, errors.Join(err, ErrNotGRPC)
		}
		return answer, nil
	}
	return nil, fmt.Errorf("%w: a call without an answer", ErrNotGRPC)
}

func silence(patience time.Duration) error { return fmt.Errorf("%w (%s)", ErrSilent, patience) }
