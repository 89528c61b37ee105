package netstack

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const pingTimeout = 10 * time.Second

// echo is a ping that came out of the namespace.
type echo struct {
	frame    []byte // the whole frame
	src, dst netip.Addr
	proto    int    // unix.IPPROTO_ICMP or IPPROTO_ICMPV6
	message  []byte // the ICMP message, a part of frame
	offset   int    // where it begins
}

// foreignEcho recognises a ping of another host than the gateway.
func (s *server) foreignEcho(head []byte) (echo, bool) {
	e, ok := parseEcho(head)
	return e, ok && e.dst != s.cfg.Gateway.Addr() && e.dst != s.cfg.Gateway6.Addr()
}

// ping hands a ping on to the host that it is for.
func (s *server) ping(ctx context.Context, e echo, in *frames) {
	to := netip.AddrPortFrom(e.dst, 0)
	if !s.permits("icmp", to) {
		return
	}
	e.frame = in.bytes()
	e.message = e.frame[e.offset:]
	count := s.book.flow("icmp", to)
	count.sent.Add(int64(len(e.message)))
	s.start(func() {
		if answer := e.send(ctx); answer != nil {
			count.received.Add(int64(len(answer)))
			s.link.writeFrame(e.reply(answer))
		}
	})
}

func parseEcho(head []byte) (e echo, ok bool) {
	body := head[header.EthernetMinimumSize:]
	e.offset = header.EthernetMinimumSize
	switch header.Ethernet(head).Type() {
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(body)
		if ip.TransportProtocol() != header.ICMPv4ProtocolNumber || ip.More() || ip.FragmentOffset() != 0 {
			return e, false
		}
		e.proto, e.offset = unix.IPPROTO_ICMP, e.offset+int(ip.HeaderLength())
		e.src, e.dst = addrOf(ip.SourceAddress()), addrOf(ip.DestinationAddress())
		msg := after(head, e.offset)
		return e, len(msg) >= header.ICMPv4MinimumSize && header.ICMPv4(msg).Type() == header.ICMPv4Echo
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(body)
		e.proto, e.offset = unix.IPPROTO_ICMPV6, e.offset+header.IPv6MinimumSize
		e.src, e.dst = addrOf(ip.SourceAddress()), addrOf(ip.DestinationAddress())
		msg := after(head, e.offset)
		return e, next(ip) == header.ICMPv6ProtocolNumber && len(msg) >= header.ICMPv6MinimumSize &&
			header.ICMPv6(msg).Type() == header.ICMPv6EchoRequest
	}
	return e, false
}

func addrOf(a tcpip.Address) netip.Addr {
	out, _ := netip.AddrFromSlice(a.AsSlice())
	return out
}

// send pings and returns the answer's message, nil if there is none. It needs no
// privilege where the system lets this user ping, else CAP_NET_RAW.
func (e *echo) send(ctx context.Context) []byte {
	family := unix.AF_INET
	if e.proto == unix.IPPROTO_ICMPV6 {
		family = unix.AF_INET6
	}
	raw := false
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|flags, e.proto)
	if err != nil {
		raw = true
		if fd, err = unix.Socket(family, unix.SOCK_RAW|flags, e.proto); err != nil {
			return nil
		}
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close()
	if unix.Connect(fd, sockaddr(e.dst)) != nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(past()) })
	defer stop()
	_ = f.SetDeadline(time.Now().Add(pingTimeout))
	if _, err := f.Write(e.message); err != nil {
		return nil
	}
	buf := make([]byte, maxPacket)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return nil
		}
		answer := buf[:n]
		if raw && family == unix.AF_INET { // with the IP header
			if ip := header.IPv4(answer); ip.IsValid(n) {
				answer = ip.Payload()
			}
		}
		if e.answeredBy(answer, raw) {
			return answer
		}
	}
}

// answeredBy compares identifier and sequence; the system chooses the identifier
// of a socket that is not raw, and keeps others' answers from it.
func (e *echo) answeredBy(answer []byte, raw bool) bool {
	if len(answer) < header.ICMPv4MinimumSize {
		return false
	}
	if e.proto == unix.IPPROTO_ICMP && header.ICMPv4(answer).Type() != header.ICMPv4EchoReply ||
		e.proto == unix.IPPROTO_ICMPV6 && header.ICMPv6(answer).Type() != header.ICMPv6EchoReply {
		return false
	}
	return string(answer[6:8]) == string(e.message[6:8]) && (!raw || string(answer[4:6]) == string(e.message[4:6]))
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// reply makes the frame that brings the answer's message into the namespace.
func (e *echo) reply(answer []byte) []byte {
	msg := append([]byte(nil), answer...)
	copy(msg[4:6], e.message[4:6]) // the identifier that the namespace chose
	binary.BigEndian.PutUint16(msg[2:], 0)
	eth := header.Ethernet(e.frame)
	var ip []byte
	src, dst := tcpip.AddrFromSlice(e.dst.AsSlice()), tcpip.AddrFromSlice(e.src.AsSlice())
	if e.proto == unix.IPPROTO_ICMP {
		h := make(header.IPv4, header.IPv4MinimumSize)
		h.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(h) + len(msg)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
			SrcAddr: src, DstAddr: dst,
		})
		h.SetChecksum(^h.CalculateChecksum())
		ip = h
		binary.BigEndian.PutUint16(msg[2:], ^checksum.Checksum(msg, 0))
	} else {
		h := make(header.IPv6, header.IPv6MinimumSize)
		h.Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(msg)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64,
			SrcAddr: src, DstAddr: dst,
		})
		ip = h
		header.ICMPv6(msg).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
			Header: header.ICMPv6(msg), Src: src, Dst: dst,
		}))
	}
	frame := make(header.Ethernet, header.EthernetMinimumSize, header.EthernetMinimumSize+len(ip)+len(msg))
	frame.Encode(&header.EthernetFields{
		SrcAddr: eth.DestinationAddress(), DstAddr: eth.SourceAddress(), Type: eth.Type(),
	})
	return append(append(frame, ip...), msg...)
}
