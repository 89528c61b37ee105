package netstack

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"layered.build/builder/executor/sandbox/netrule"
)

const (
	nicID tcpip.NICID = 1
	// maxSegment is the largest TCP segment that is handed over in one piece.
	maxSegment = 65_000
)

// Config describes the gateway.
type Config struct {
	// Gateway is the gateway's address, with the length of the subnet's prefix.
	Gateway netip.Prefix
	// Gateway6 is the same for IPv6; the zero Prefix is for a namespace without it.
	Gateway6 netip.Prefix
	// MAC is the gateway's link address.
	MAC [6]byte
	// MTU is the largest IP packet.
	MTU int
	// Nameservers answer the queries that are sent to the gateway; they are tried
	// in order. What is sent to the first of Others is tried with the second server
	// first, and so on: so who asks chooses the server, and how long it is waited for.
	Nameservers []netip.AddrPort
	Others      []netip.Addr
	// Patience is how long the gateway waits for a server before it tries the next;
	// 0: 5 s.
	Patience time.Duration
	// Window bounds what a connection may have under way out of the namespace, for
	// devices that drop what they have no room for; 0: 4 MiB.
	Window int
	// MaxFlows bounds the connections and UDP flows at one time; 0: 4096.
	MaxFlows int
	// Allow are the only destinations; none allows all. A name that is not among
	// them is answered as one that does not exist.
	Allow []netrule.Rule
	// Denied is told once of every destination that was refused. It is called from
	// many goroutines and must not block.
	Denied func(Contact)
}

// Serve answers on a TAP device, or a packet socket (ethernet frames, each behind
// a virtio_net_hdr) until ctx ends or the device is closed, and returns when all
// that it started has ended, with what the namespace talked to. The stack is made
// when the first frame that needs it arrives, so that a namespace that sends
// nothing costs nothing. The caller closes tap afterwards.
func Serve(ctx context.Context, tap *os.File, cfg Config) ([]Contact, error) {
	stop := context.AfterFunc(ctx, func() { _ = tap.SetReadDeadline(past()) })
	defer stop()
	s := &server{cfg: cfg, tap: tap, policy: newPolicy(cfg.Allow), book: newBook(cfg.Denied)}
	if s.cfg.MaxFlows == 0 {
		s.cfg.MaxFlows = 4096
	}
	if s.cfg.Patience == 0 {
		s.cfg.Patience = 5 * time.Second
	}
	err := s.serve(ctx)
	s.close()
	return s.book.contacts(), err
}

func (s *server) serve(ctx context.Context) error {
	in, err := newFrames(s.tap)
	if err != nil {
		return err
	}
	for {
		err := in.read()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read network device: %w", err)
		}
		if !s.wanted(in.head, in.size) {
			continue
		}
		if s.stack == nil {
			if err := s.open(ctx); err != nil {
				return err
			}
		}
		if e, ok := s.foreignEcho(in.head); ok {
			s.ping(ctx, e, in)
			continue
		}
		s.deliver(in.take())
	}
}

// server is the gateway of one namespace.
type server struct {
	cfg    Config
	tap    *os.File
	policy *policy
	book   *book
	stack  *stack.Stack
	link   *device

	cancel context.CancelFunc
	wg     sync.WaitGroup // flows
	slots  chan struct{}  // one token a flow
}

// open builds the stack.
func (s *server) open(ctx context.Context) error {
	ctx, s.cancel = context.WithCancel(ctx)
	s.slots = make(chan struct{}, s.cfg.MaxFlows)
	s.link = newDevice(s.tap, s.cfg)
	s.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	if err := s.stack.CreateNIC(nicID, ethernet.New(s.link)); err != nil {
		return fmt.Errorf("make network interface: %s", err)
	}
	routes := []tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}}
	if err := s.addAddress(ipv4.ProtocolNumber, s.cfg.Gateway); err != nil {
		return err
	}
	if s.cfg.Gateway6.IsValid() {
		if err := s.addAddress(ipv6.ProtocolNumber, s.cfg.Gateway6); err != nil {
			return err
		}
		routes = append(routes, tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID})
	}
	// Packets for every address are taken, and answered from that address.
	if err := s.stack.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("set promiscuous mode: %s", err)
	}
	if err := s.stack.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("allow spoofing: %s", err)
	}
	s.stack.SetRouteTable(routes)
	if err := s.tune(); err != nil {
		return err
	}
	s.forwardTCP(ctx)
	s.forwardUDP(ctx)
	return nil
}

func (s *server) addAddress(proto tcpip.NetworkProtocolNumber, p netip.Prefix) error {
	addr := tcpip.ProtocolAddress{
		Protocol: proto,
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits(),
		},
	}
	if err := s.stack.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("set gateway address: %s", err)
	}
	return nil
}

// tune sets what makes bulk transfers fast.
func (s *server) tune() error {
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return fmt.Errorf("enable sack: %s", err)
	}
	recv := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 4 << 20}
	if w := s.cfg.Window; w > 0 {
		recv.Default, recv.Max = w, w
	}
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &recv); err != nil {
		return fmt.Errorf("set receive buffers: %s", err)
	}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 4 << 20}
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send); err != nil {
		return fmt.Errorf("set send buffers: %s", err)
	}
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate); err != nil {
		return fmt.Errorf("moderate receive buffers: %s", err)
	}
	return nil
}

// wanted drops what needs no stack: all but TCP, UDP, pings, and questions for the
// gateway's link address. head is the beginning of a frame of size bytes.
func (s *server) wanted(head []byte, size int) bool {
	if len(head) < header.EthernetMinimumSize {
		return false
	}
	body, size := head[header.EthernetMinimumSize:], size-header.EthernetMinimumSize
	switch header.Ethernet(head).Type() {
	case header.ARPProtocolNumber:
		return s.arpForGateway(body)
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(body)
		return ip.IsValid(size) && s.wantedBody(ip.TransportProtocol(), after(body, int(ip.HeaderLength())))
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(body)
		return s.cfg.Gateway6.IsValid() && ip.IsValid(size) && s.wantedBody(next(ip), body[header.IPv6MinimumSize:])
	}
	return false
}

// next is what follows directly behind the header: containers send no extension
// headers before what is wanted here.
func next(ip header.IPv6) tcpip.TransportProtocolNumber {
	return tcpip.TransportProtocolNumber(ip.NextHeader())
}

func after(b []byte, n int) []byte { return b[min(n, len(b)):] }

func (s *server) wantedBody(proto tcpip.TransportProtocolNumber, body []byte) bool {
	switch proto {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return true
	case header.ICMPv4ProtocolNumber:
		return len(body) >= header.ICMPv4MinimumSize && header.ICMPv4(body).Type() == header.ICMPv4Echo
	case header.ICMPv6ProtocolNumber:
		if len(body) < header.ICMPv6MinimumSize {
			return false
		}
		p := header.ICMPv6(body)
		if p.Type() == header.ICMPv6NeighborSolicit && len(body) >= header.ICMPv6NeighborSolicitMinimumSize {
			target := header.NDPNeighborSolicit(p.MessageBody()).TargetAddress()
			return target == tcpip.AddrFrom16(s.cfg.Gateway6.Addr().As16())
		}
		return p.Type() == header.ICMPv6EchoRequest || p.Type() == header.ICMPv6NeighborAdvert
	}
	return false
}

// arpForGateway is false for the question whether the namespace's own address is
// taken, which the promiscuous stack would affirm.
func (s *server) arpForGateway(body []byte) bool {
	p := header.ARP(body)
	gw := s.cfg.Gateway.Addr().As4()
	return p.IsValid() && string(p.ProtocolAddressTarget()) == string(gw[:])
}

func (s *server) deliver(frame buffer.Buffer) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: frame})
	s.link.deliver(pkt)
	pkt.DecRef()
}

func (s *server) close() {
	if s.stack == nil {
		return
	}
	s.cancel()
	s.stack.Close()
	s.wg.Wait()
	s.stack.Wait()
}

// start runs f as a flow, unless there are too many.
func (s *server) start(f func()) bool {
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		f()
	})
	return true
}

// permits decides on a destination and notes it if it is refused.
func (s *server) permits(proto string, to netip.AddrPort) bool {
	if s.reachable(to.Addr()) && s.policy.allows(to) {
		return true
	}
	s.book.deny(proto, to)
	return false
}

// reachable leaves the gateway's own subnets out of what a process may reach.
func (s *server) reachable(a netip.Addr) bool {
	return netrule.Reachable(a) && !s.cfg.Gateway.Contains(a) && !(s.cfg.Gateway6.IsValid() && s.cfg.Gateway6.Contains(a))
}
