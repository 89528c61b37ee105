package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	dialTimeout = 75 * time.Second // about what Linux gives a connect(2)
	copyBuffer  = 128 << 10
)

// forwardTCP makes an outward connection for every one that the namespace opens.
func (s *server) forwardTCP(ctx context.Context) {
	f := tcp.NewForwarder(s.stack, s.window(), s.cfg.MaxFlows, func(r *tcp.ForwarderRequest) {
		to := destination(r.ID())
		flow := func() { s.tcpFlow(ctx, r, to) }
		names, dns := s.nameservers(to)
		if dns {
			flow = func() { s.tcpQueries(ctx, r, names) }
		}
		if !dns && !s.permits("tcp", to) || !s.start(flow) {
			r.Complete(true)
		}
	})
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
}

// window is the receive window that a connection begins with.
func (s *server) window() int {
	if s.cfg.Window > 0 {
		return s.cfg.Window
	}
	return 1 << 20
}

// tcpFlow answers the namespace's handshake only when the real connection is
// made, so that a refused connection is seen as refused.
func (s *server) tcpFlow(ctx context.Context, r *tcp.ForwarderRequest, to netip.AddrPort) {
	count := s.book.flow("tcp", to)
	d := net.Dialer{Timeout: dialTimeout}
	out, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		r.Complete(true)
		return
	}
	defer out.Close()
	in, stop := accept(ctx, r, func() { out.Close() })
	if in == nil {
		return
	}
	defer stop()
	defer in.Close()
	splice(in, out.(*net.TCPConn), count)
}

// accept completes the namespace's handshake. closeToo is called with the
// connection's abortion when ctx ends. It returns nil if that failed.
func accept(ctx context.Context, r *tcp.ForwarderRequest, closeToo func()) (_ *gonet.TCPConn, stop func() bool) {
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		r.Complete(true)
		return nil, nil
	}
	r.Complete(false)
	ep.SocketOptions().SetKeepAlive(true)
	return gonet.NewTCPConn(&wq, ep), context.AfterFunc(ctx, func() { closeToo(); ep.Abort() })
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// splice copies both ways; the end of one way is handed on as such, an error
// ends both.
func splice(in, out halfCloser, count *entry) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		oneWay(in, out, &count.received)
	}()
	oneWay(out, in, &count.sent)
	<-done
}

// counted is a writer that counts what was written.
type counted struct {
	w io.Writer
	n *atomic.Int64
}

// Write implements io.Writer.
func (c counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func oneWay(to, from halfCloser, n *atomic.Int64) {
	// Hide ReadFrom and WriteTo: between these connections they only get smaller
	// buffers.
	_, err := io.CopyBuffer(counted{to, n}, struct{ io.Reader }{from}, make([]byte, copyBuffer))
	if err != nil {
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite()
}

func destination(id stack.TransportEndpointID) netip.AddrPort {
	a, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return netip.AddrPortFrom(a.Unmap(), id.LocalPort)
}

func past() time.Time { return time.Unix(1, 0) }
