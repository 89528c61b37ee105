package transport

import (
	"net"
	"net/http"
	"time"
)

// ioBuffer is how many bytes of a connection are read or written at once, where there
// are as many: every call wakes the other side.
const ioBuffer = 128 << 10

// newTransport makes the connections to one host.
func (p *Pool) newTransport(host string, skipVerify bool) (*http.Transport, error) {
	conf, err := p.o.Certs.tlsConfig(host, p.o.Warn)
	if err != nil {
		return nil, err
	}
	limits := p.o.Timeouts
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
