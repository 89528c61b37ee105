package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	dialTimeout = 75 * time.Second // about what Linux gives a connect(2)
	copyBuffer  = 64 << 10
)

// forwardTCP makes an outward connection for every one that the namespace opens.
func (s *server) forwardTCP(ctx context.Context) {
	f := tcp.NewForwarder(s.stack, 1<<20, s.cfg.MaxFlows, func(r *tcp.ForwarderRequest) {
		if !s.start(func() { s.tcpFlow(ctx, r) }) {
			r.Complete(true)
		}
	})
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
}

// tcpFlow answers the namespace's handshake only when the real connection is
// made, so that a refused connection is seen as refused.
func (s *server) tcpFlow(ctx context.Context, r *tcp.ForwarderRequest) {
	out, err := s.dialTCP(ctx, destination(r.ID()))
	if err != nil {
		r.Complete(true)
		return
	}
	defer out.Close()
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		r.Complete(true)
		return
	}
	r.Complete(false)
	ep.SocketOptions().SetKeepAlive(true)
	in := gonet.NewTCPConn(&wq, ep)
	defer in.Close()
	stop := context.AfterFunc(ctx, func() { out.Close(); ep.Abort() })
	defer stop()
	splice(in, out.(*net.TCPConn))
}

func (s *server) dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if to == s.dnsAddr() {
		return dialFirst(ctx, &d, s.cfg.Nameservers)
	}
	if !s.reachable(to.Addr()) {
		return nil, net.ErrClosed
	}
	return d.DialContext(ctx, "tcp4", to.String())
}

func dialFirst(ctx context.Context, d *net.Dialer, servers []netip.AddrPort) (c net.Conn, err error) {
	err = net.ErrClosed
	for _, a := range servers {
		if c, err = d.DialContext(ctx, "tcp", a.String()); err == nil {
			return c, nil
		}
	}
	return nil, err
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// splice copies both ways; the end of one way is handed on as such, an error
// ends both.
func splice(a, b halfCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		oneWay(a, b)
	}()
	oneWay(b, a)
	<-done
}

func oneWay(to, from halfCloser) {
	// Hide ReadFrom and WriteTo: between these connections they only get smaller
	// buffers.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, copyBuffer))
	if err != nil {
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite()
}

func destination(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
}

// dnsAddr is where the gateway answers queries.
func (s *server) dnsAddr() netip.AddrPort { return netip.AddrPortFrom(s.cfg.Gateway.Addr(), 53) }

func past() time.Time { return time.Unix(1, 0) }
