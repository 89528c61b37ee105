package netstack

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nicID tcpip.NICID = 1

// Config describes the gateway.
type Config struct {
	// Gateway is the gateway's address, with the length of the subnet's prefix.
	Gateway netip.Prefix
	// MAC is the gateway's link address.
	MAC [6]byte
	// MTU is the largest IP packet.
	MTU int
	// Nameservers answer the queries that are sent to the gateway; they are tried
	// in order.
	Nameservers []netip.AddrPort
	// MaxFlows bounds the connections and UDP flows at one time; 0: 4096.
	MaxFlows int
}

// Serve answers on a TAP device (ethernet frames without a header of the driver)
// until ctx ends or the device is closed, and returns when all that it started
// has ended. The stack is made when the first IPv4 or ARP frame arrives, so that
// a namespace that sends nothing costs nothing. The caller closes tap
// afterwards.
func Serve(ctx context.Context, tap *os.File, cfg Config) error {
	stop := context.AfterFunc(ctx, func() { _ = tap.SetReadDeadline(past()) })
	defer stop()
	s := &server{cfg: cfg, tap: tap}
	if s.cfg.MaxFlows == 0 {
		s.cfg.MaxFlows = 4096
	}
	defer s.close()
	buf := make([]byte, cfg.MTU+header.EthernetMinimumSize)
	for {
		n, err := tap.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read network device: %w", err)
		}
		if !s.wanted(buf[:n]) {
			continue
		}
		if s.stack == nil {
			if err := s.open(ctx); err != nil {
				return err
			}
		}
		s.deliver(buf[:n])
	}
}

// server is the gateway of one namespace.
type server struct {
	cfg   Config
	tap   *os.File
	stack *stack.Stack
	link  *device

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
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := s.stack.CreateNIC(nicID, ethernet.New(s.link)); err != nil {
		return fmt.Errorf("make network interface: %s", err)
	}
	addr := tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address:   tcpip.AddrFrom4(s.cfg.Gateway.Addr().As4()),
			PrefixLen: s.cfg.Gateway.Bits(),
		},
	}
	if err := s.stack.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("set gateway address: %s", err)
	}
	// Packets for every address are taken, and answered from that address.
	if err := s.stack.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("set promiscuous mode: %s", err)
	}
	if err := s.stack.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("allow spoofing: %s", err)
	}
	s.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}})
	if err := s.tune(); err != nil {
		return err
	}
	s.forwardTCP(ctx)
	s.forwardUDP(ctx)
	return nil
}

// tune sets what makes bulk transfers fast.
func (s *server) tune() error {
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return fmt.Errorf("enable sack: %s", err)
	}
	recv := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 4 << 20}
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

// wanted drops what needs no stack: frames that are neither ARP nor IPv4, and
// pings of others than the gateway (which would be answered as if all hosts of
// the world were here).
func (s *server) wanted(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize {
		return false
	}
	body := frame[header.EthernetMinimumSize:]
	switch header.Ethernet(frame).Type() {
	case header.ARPProtocolNumber:
		return s.arpForGateway(body)
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(body)
		if !ip.IsValid(len(body)) {
			return false
		}
		return ip.TransportProtocol() != header.ICMPv4ProtocolNumber ||
			ip.DestinationAddress() == tcpip.AddrFrom4(s.cfg.Gateway.Addr().As4())
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

func (s *server) deliver(frame []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
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

// reachable says whether the namespace may reach an address: not this machine's
// loopback, not link-local addresses (where clouds keep credentials), and no
// groups.
func (s *server) reachable(a netip.Addr) bool {
	return !(a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() ||
		a.As4()[0] == 0 || a.As4()[0] >= 240 || s.cfg.Gateway.Contains(a))
}
