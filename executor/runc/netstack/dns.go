package netstack

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	dnsIdle    = 5 * time.Second  // most queries come from sockets of their own
	dnsIdleTCP = 30 * time.Second // a connection is kept for more queries
	dnsPort    = 53
	maxQuery   = 4 << 10
	dnsHeader  = 12
)

// udpQueries answers the queries of one socket of the namespace, each on its own:
// resolvers send several at once and expect the answers in any order.
func (s *server) udpQueries(ctx context.Context, in *gonet.UDPConn, servers []netip.AddrPort) {
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
			if answer := s.resolve(ctx, "udp", servers, query); answer != nil {
				_, _ = in.Write(answer)
			}
		})
	}
}

// tcpQueries answers the queries of one connection, one after another.
func (s *server) tcpQueries(ctx context.Context, r *tcp.ForwarderRequest, servers []netip.AddrPort) {
	in, stop := accept(ctx, r, func() {})
	if in == nil {
		return
	}
	defer stop()
	defer in.Close()
	for {
		_ = in.SetDeadline(time.Now().Add(dnsIdleTCP))
		query, err := readMessage(in)
		if err != nil {
			return
		}
		answer := s.resolve(ctx, "tcp", servers, query)
		if answer == nil || writeMessage(in, answer) != nil {
			return
		}
	}
}

// readMessage reads a message with its length in front (RFC 1035, 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

func writeMessage(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// nameservers are those that are asked for the queries to an address of the namespace,
// the one that the address stands for first; ok is false if nothing is answered there.
func (s *server) nameservers(to netip.AddrPort) (servers []netip.AddrPort, ok bool) {
	if to.Port() != dnsPort {
		return nil, false
	}
	if to.Addr() == s.cfg.Gateway.Addr() || to.Addr() == s.cfg.Gateway6.Addr() {
		return s.cfg.Nameservers, true
	}
	i := slices.Index(s.cfg.Others, to.Addr()) + 1
	if i == 0 || i >= len(s.cfg.Nameservers) {
		return nil, false
	}
	return slices.Concat(s.cfg.Nameservers[i:], s.cfg.Nameservers[:i]), true
}

// resolve answers a query: as the servers do, or that the name does not exist if
// it is not allowed. nil is no answer.
func (s *server) resolve(ctx context.Context, network string, servers []netip.AddrPort, query []byte) []byte {
	if len(query) < dnsHeader {
		return nil
	}
	name, err := questionName(query)
	if err != nil && !s.policy.open() {
		return refusal(query, dnsmessage.RCodeFormatError)
	}
	var ports []uint16
	if !s.policy.open() {
		if ports = s.policy.ports(name); len(ports) == 0 {
			s.book.denyName(name)
			return refusal(query, dnsmessage.RCodeNameError)
		}
	}
	answer := s.ask(ctx, network, servers, query)
	if err == nil && answer != nil {
		s.learn(name, ports, answer)
	}
	return answer
}

// questionName is the name of the one question of a query.
func questionName(query []byte) (string, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(query); err != nil {
		return "", err
	}
	q, err := p.Question()
	if err != nil {
		return "", err
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return "", dnsmessage.ErrNotStarted // more than one: no server answers that
	}
	return strings.TrimSuffix(strings.ToLower(q.Name.String()), "."), nil
}

// refusal is an answer without records.
func refusal(query []byte, code dnsmessage.RCode) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	qs, err := p.AllQuestions()
	if err != nil {
		qs = nil
	}
	msg := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: h.ID, Response: true, OpCode: h.OpCode,
			RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code,
		},
		Questions: qs,
	}
	out, err := msg.Pack()
	if err != nil {
		return nil
	}
	return out
}

// learn notes the addresses that an answer gives a name, and allows them.
func (s *server) learn(name string, ports []uint16, answer []byte) {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil {
		return
	}
	if err := p.SkipAllQuestions(); err != nil {
		return
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return
		}
		var a netip.Addr
		switch h.Type {
		case dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return
			}
			a = netip.AddrFrom4(r.A)
		case dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return
			}
			a = netip.AddrFrom16(r.AAAA).Unmap()
		default:
			if err := p.SkipAnswer(); err != nil {
				return
			}
			continue
		}
		s.book.learn(name, a)
		s.policy.lease(a, ports, time.Duration(h.TTL)*time.Second)
	}
}

// ask sends a query to the servers in order until one knows. If none does, the
// first one's failure is the answer.
func (s *server) ask(ctx context.Context, network string, servers []netip.AddrPort, query []byte) []byte {
	var failure []byte
	for _, a := range servers {
		answer := s.askOne(ctx, network, a, query)
		if answer == nil {
			continue
		}
		switch dnsmessage.RCode(answer[3] & 0xf) {
		case dnsmessage.RCodeServerFailure, dnsmessage.RCodeNotImplemented, dnsmessage.RCodeRefused:
			if failure == nil {
				failure = answer
			}
			continue
		}
		return answer
	}
	if failure == nil {
		failure = refusal(query, dnsmessage.RCodeServerFailure)
	}
	return failure
}

func (s *server) askOne(ctx context.Context, network string, server netip.AddrPort, query []byte) []byte {
	c, err := (&net.Dialer{Timeout: s.cfg.Patience}).DialContext(ctx, network, server.String())
	if err != nil {
		return nil
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(s.cfg.Patience))
	if network == "tcp" {
		if err := writeMessage(c, query); err != nil {
			return nil
		}
		answer, err := readMessage(c)
		if err != nil || !answers(answer, query) {
			return nil
		}
		return answer
	}
	if _, err := c.Write(query); err != nil {
		return nil
	}
	buf := make([]byte, maxPacket)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil
		}
		if answers(buf[:n], query) {
			return buf[:n]
		}
	}
}

// answers is false for another query's late answer, or a forged one.
func answers(answer, query []byte) bool {
	return len(answer) >= dnsHeader && answer[0] == query[0] && answer[1] == query[1] && answer[2]&0x80 != 0
}
