package netstack

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	udpIdle   = 90 * time.Second // a flow without packets is forgotten
	maxPacket = 64 << 10
)

// forwardUDP makes a socket for every pair of endpoints.
func (s *server) forwardUDP(ctx context.Context) {
	f := udp.NewForwarder(s.stack, func(r *udp.ForwarderRequest) bool {
		to := destination(r.ID())
		names, dns := s.nameservers(to)
		if !dns && !s.permits("udp", to) {
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
			if dns {
				s.udpQueries(ctx, in, names)
			} else {
				udpFlow(ctx, in, to, s.book.flow("udp", to))
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
func udpFlow(ctx context.Context, in *gonet.UDPConn, to netip.AddrPort, count *entry) {
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
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
		relay(in, out, &count.received, alive)
		_ = in.SetReadDeadline(past())
	})
	relay(out, in, &count.sent, alive)
	_ = out.SetReadDeadline(past())
	wg.Wait()
}

func relay(to, from net.Conn, count *atomic.Int64, alive func()) {
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
		count.Add(int64(n))
	}
}
