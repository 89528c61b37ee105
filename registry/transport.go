package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// certDirs are where docker and podman keep authorities and client certificates
// for a registry, in folders named after its host[:port].
var certDirs = [...]string{"/etc/docker/certs.d", "/etc/containers/certs.d"}

// ioBuffer is how many bytes of a connection are read or written at once, where there
// are as many: every call wakes the other side.
const ioBuffer = 128 << 10

// newTransport makes the connections to one host.
func newTransport(host string, skipVerify bool, limits Timeouts) (*http.Transport, error) {
	conf, err := tlsConfig(host, certDirs[:])
	if err != nil {
		return nil, err
	}
	conf.InsecureSkipVerify = skipVerify
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: limits.Dial, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   limits.TLS,
		TLSClientConfig:       conf,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // blobs are what they are
		WriteBufferSize:       ioBuffer,
		ReadBufferSize:        ioBuffer,
	}, nil
}

// tlsConfig adds *.crt as authorities and *.cert with *.key as client
// certificates, as docker does.
func tlsConfig(host string, dirs []string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, dir := range dirs {
		certs, err := filepath.Glob(filepath.Join(dir, host, "*.c*rt"))
		if err != nil {
			return nil, fmt.Errorf("read certificates for %s: %w", host, err)
		}
		for _, path := range certs {
			if err := addCert(conf, path); err != nil {
				return nil, fmt.Errorf("certificate for %s: %w", host, err)
			}
		}
	}
	return conf, nil
}

func addCert(conf *tls.Config, path string) error {
	base, client := strings.CutSuffix(path, ".cert")
	if client {
		pair, err := tls.LoadX509KeyPair(path, base+".key")
		if err != nil {
			return err
		}
		conf.Certificates = append(conf.Certificates, pair)
		return nil
	}
	if !strings.HasSuffix(path, ".crt") {
		return nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if conf.RootCAs == nil {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
	}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: %w: no PEM certificate", path, ErrInvalid)
	}
	return nil
}

// errStalled is the cause of a request that was given up because nothing moved.
var errStalled = errors.New("no data for too long")

// patient bounds the time in which a peer may be silent: until the response's
// header, and between two pieces of a body, of the request or the response. The
// time that our own side takes to make the request's body does not count.
type patient struct {
	inner  http.RoundTripper
	limits Timeouts
	agent  string
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	dog := &watchdog{cancel: cancel}
	out := req.Clone(ctx)
	if p.agent != "" {
		out.Header.Set("User-Agent", p.agent)
	}
	dog.arm(p.limits.Header + p.limits.Dial + p.limits.TLS)
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = &watchedBody{body: out.Body, dog: dog, stall: p.limits.Stall, after: p.limits.Header}
	}
	resp, err := p.inner.RoundTrip(out)
	if err != nil {
		dog.disarm()
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	dog.disarm()
	resp.Body = &watchedBody{body: resp.Body, dog: dog, stall: p.limits.Stall, response: true, ctx: ctx}
	return resp, nil
}

func causeOf(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// watchdog ends a request when it is not disarmed in time.
type watchdog struct {
	cancel context.CancelCauseFunc
	mu     sync.Mutex
	timer  *time.Timer // guarded by mu
}

func (d *watchdog) arm(after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer == nil {
		d.timer = time.AfterFunc(after, func() { d.cancel(errStalled) })
		return
	}
	d.timer.Reset(after)
}

func (d *watchdog) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// watchedBody is the body of a request (read by the connection: the time between
// reads is the peer's) or of a response (the time in a read is the peer's).
type watchedBody struct {
	body     io.ReadCloser
	dog      *watchdog
	stall    time.Duration
	after    time.Duration // how long to wait after a request's last byte
	response bool
	ctx      context.Context //nolint:containedctx // the request's, to tell why it ended
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	if b.response {
		b.dog.arm(b.stall)
		n, err := b.body.Read(p)
		b.dog.disarm()
		if err != nil && err != io.EOF {
			err = causeOf(b.ctx, err)
		}
		return n, err
	}
	b.dog.disarm()
	n, err := b.body.Read(p)
	if err == nil {
		b.dog.arm(b.stall)
	} else {
		b.dog.arm(b.after)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	err := b.body.Close()
	if b.response {
		b.dog.disarm()
		b.dog.cancel(nil)
	}
	return err
}
