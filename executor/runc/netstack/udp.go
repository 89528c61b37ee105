package netstack

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	udpIdle    = 90 * time.Second // a flow without packets is forgotten
	dnsIdle    = 5 * time.Second  // the same for queries: most come from sockets of their own
	dnsTimeout = 3 * time.Second  // a name server, before the next is asked
	maxPacket  = 64 << 10
	maxQuery   = 4 << 10
)

// forwardUDP makes a socket for every pair of endpoints.
func (s *server) forwardUDP(ctx context.Context) {
	f := udp.NewForwarder(s.stack, func(r *udp.ForwarderRequest) bool {
		to := destination(r.ID())
		if to != s.dnsAddr() && !s.reachable(to.Addr()) {
			return false // the stack says "port unreachable"
		}
		var wq waiter.Queue
		ep, err := r.CreateEndpoint(&wq)
		if err != nil {
			return false
		}
		in := gonet.NewUDPConn(&wq, ep)
		started := s.start(func() {
			defer in.Close()
			stop := context.AfterFunc(ctx, func() { in.Close() })
			defer stop()
			if to == s.dnsAddr() {
				s.dnsFlow(ctx, in)
			} else {
				udpFlow(ctx, in, to)
			}
		})
		if !started {
			in.Close()
		}
		return true
	})
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, f.HandlePacket)
}

// udpFlow relays datagrams until none came either way for a while.
func udpFlow(ctx context.Context, in *gonet.UDPConn, to netip.AddrPort) {
	out, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { out.Close() })
	defer stop()
	var wg sync.WaitGroup
	alive := func() {
		t := time.Now().Add(udpIdle)
		_ = in.SetReadDeadline(t)
		_ = out.SetReadDeadline(t)
	}
	alive()
	wg.Go(func() {
		relay(in, out, alive)
		_ = in.SetReadDeadline(past())
	})
	relay(out, in, alive)
	_ = out.SetReadDeadline(past())
	wg.Wait()
}

func relay(to, from net.Conn, alive func()) {
	buf := make([]byte, maxPacket)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		alive()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// dnsFlow answers the queries of one socket of the namespace, each on its own:
// resolvers send several at once and expect the answers in any order.
func (s *server) dnsFlow(ctx context.Context, in *gonet.UDPConn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	buf := make([]byte, maxQuery)
	for {
		_ = in.SetReadDeadline(time.Now().Add(dnsIdle))
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		query := append([]byte(nil), buf[:n]...)
		wg.Go(func() {
			if answer := ask(ctx, s.cfg.Nameservers, query); answer != nil {
				_, _ = in.Write(answer)
			}
		})
	}
}

// ask sends a query to the servers in order until one answers.
func ask(ctx context.Context, servers []netip.AddrPort, query []byte) []byte {
	for _, a := range servers {
		if answer := askOne(ctx, a, query); answer != nil {
			return answer
		}
	}
	return nil
}

func askOne(ctx context.Context, server netip.AddrPort, query []byte) []byte {
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", server.String())
	if err != nil {
		return nil
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(dnsTimeout))
	if _, err := c.Write(query); err != nil {
		return nil
	}
	buf := make([]byte, maxPacket)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil
		}
		// Another query's late answer, or a forged one.
		if n >= 2 && len(query) >= 2 && buf[0] == query[0] && buf[1] == query[1] {
			return buf[:n]
		}
	}
}
