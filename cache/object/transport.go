package object

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// Timeouts bound how long a silent service is waited for. Zero fields take defaults.
type Timeouts struct {
	// Dial and TLS bound how a connection begins (0: 10 s each).
	Dial, TLS time.Duration
	// Idle is how long nothing may move on it while a request is under way (0: 30 s).
	Idle time.Duration
}

// NewTransport makes connections that end when nothing moves on them. It speaks HTTP/1.1:
// each request has a connection of its own, so that what moves there is its own. Roots
// are further authorities, nil if there are none.
func NewTransport(t Timeouts, roots *x509.CertPool) *http.Transport {
	idle := cmp.Or(t.Idle, 30*time.Second)
	dialer := &net.Dialer{Timeout: cmp.Or(t.Dial, 10*time.Second)}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &impatient{Conn: c, idle: idle}, nil
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		TLSHandshakeTimeout: cmp.Or(t.TLS, 10*time.Second),
		DisableCompression:  true, // what is stored compressed is what is wanted
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     idle / 2,
	}
}

// impatient is a connection that fails when nothing was read or written for long.
type impatient struct {
	net.Conn
	idle time.Duration
}

// Read implements net.Conn.
func (c *impatient) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn. A Read that waits meanwhile for the answer waits longer.
func (c *impatient) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(c.idle))
	}
	return n, err
}
