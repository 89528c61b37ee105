package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
)

// nameServer answers A, AAAA and TXT questions from the records, on UDP and TCP of
// a loopback port. A name that begins with "large" has an answer that does not fit
// into a datagram. rcode is for all others.
func nameServer(t *testing.T, rcode dnsmessage.RCode, records map[string]string) netip.AddrPort {
	t.Helper()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	l, err := net.Listen("tcp4", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(answerDNS(buf[:n], rcode, records, false), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var size [2]byte
				for {
					if _, err := io.ReadFull(c, size[:]); err != nil {
						return
					}
					q := make([]byte, int(size[0])<<8|int(size[1]))
					if _, err := io.ReadFull(c, q); err != nil {
						return
					}
					a := answerDNS(q, rcode, records, true)
					_, _ = c.Write(append([]byte{byte(len(a) >> 8), byte(len(a))}, a...))
				}
			}()
		}
	}()
	return netip.MustParseAddrPort(u.LocalAddr().String())
}

func answerDNS(query []byte, rcode dnsmessage.RCode, records map[string]string, stream bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.RecursionAvailable = true, true
	m.Additionals = nil
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
	value, known := records[name]
	switch {
	case !known:
		m.RCode = rcode
	case strings.HasPrefix(name, "large") && !stream:
		m.Truncated = true
	case strings.HasPrefix(name, "large"):
		for i := range 200 {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte{198, 18, 0, byte(i)}}})
		}
	default:
		a := netip.MustParseAddr(value)
		if a.Is4() && q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		}
		if a.Is6() && q.Type == dnsmessage.TypeAAAA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, _ := m.Pack()
	return out
}

// lookup asks the gateway; the sockets are the thread's, since each is made by the
// goroutine that asks.
func lookup(name string) (string, error) { return lookupAt(gatewayAddr(), name) }

func lookupAt(server netip.Addr, name string) (string, error) {
	var last error
	for _, network := range []string{"udp", "tcp"} {
		m, err := query(server, network, name, dnsmessage.TypeA)
		if err != nil {
			return "", err
		}
		if m.Truncated {
			last = errors.New("truncated")
			continue
		}
		if m.RCode != dnsmessage.RCodeSuccess {
			return "", errors.New(m.RCode.String())
		}
		var out []string
		for _, a := range m.Answers {
			if r, ok := a.Body.(*dnsmessage.AResource); ok {
				out = append(out, netip.AddrFrom4(r.A).String())
			}
		}
		if len(out) > 1 {
			return fmt.Sprintf("%d over %s", len(out), network), nil
		}
		return strings.Join(out, " "), nil
	}
	return "", last
}

func query(server netip.Addr, network, name string, typ dnsmessage.Type) (*dnsmessage.Message, error) {
	c, err := net.Dial(network, net.JoinHostPort(server.String(), "53"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(fixtures.Patience))
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET}},
	}
	var edns dnsmessage.ResourceHeader
	if err := edns.SetEDNS0(4096, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	m.Additionals = []dnsmessage.Resource{{Header: edns, Body: &dnsmessage.OPTResource{}}}
	q, err := m.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		q = append([]byte{byte(len(q) >> 8), byte(len(q))}, q...)
	}
	if _, err := c.Write(q); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	if network == "tcp" {
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return nil, err
		}
		buf = buf[:int(buf[0])<<8|int(buf[1])]
		if _, err := io.ReadFull(c, buf); err != nil {
			return nil, err
		}
	} else {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		buf = buf[:n]
	}
	var answer dnsmessage.Message
	return &answer, answer.Unpack(buf)
}

func TestInsideNames(t *testing.T) {
	machine(t)
	servers := []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:1"), // refuses
		nameServer(t, dnsmessage.RCodeServerFailure, map[string]string{"first.test": "198.18.1.1"}),
		nameServer(t, dnsmessage.RCodeNameError, map[string]string{"web.test": "198.18.1.2", "large.test": "198.18.0.0"}),
	}
	inNetwork(t, nil, servers, func() error {
		for name, want := range map[string]string{
			"first.test": "198.18.1.1", "web.test": "198.18.1.2", "large.test": "200 over tcp", "none.test": "RCodeNameError",
		} {
			got, err := lookup(name)
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		return nil
	})
	inNetwork(t, nil, servers[:1], func() error {
		if got, err := lookup("web.test"); err == nil || err.Error() != "RCodeServerFailure" {
			t.Errorf("no server answers: %s, %v", got, err)
		}
		return nil
	})
}

// A server that says nothing delays who asks the address that stands for it, until the
// next is asked, and nobody else.
func TestInsideSilentServer(t *testing.T) {
	machine(t)
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	servers := []netip.AddrPort{
		netip.MustParseAddrPort(silent.LocalAddr().String()),
		nameServer(t, dnsmessage.RCodeNameError, map[string]string{"web.test": "198.18.1.2"}),
		nameServer(t, dnsmessage.RCodeNameError, map[string]string{"web.test": "198.18.1.3"}),
	}
	buf := make([]byte, 1500)
	asked := func(wait time.Duration) bool {
		_ = silent.SetReadDeadline(time.Now().Add(wait))
		_, _, err := silent.ReadFrom(buf)
		return err == nil
	}
	inNetwork(t, nil, servers, func() error {
		for i, want := range []string{"198.18.1.2", "198.18.1.3"} {
			if got, err := lookupAt(otherNames()[i], "web.test"); got != want || asked(short) {
				t.Errorf("at %v: %s, %v, want %s and no word to the silent server", otherNames()[i], got, err, want)
			}
		}
		if got, err := lookup("web.test"); got != "198.18.1.2" || !asked(long) {
			t.Errorf("at the gateway: %s, %v, want what the second server says when the first is silent", got, err)
		}
		return nil
	})
}

// A container has an address for every server that a resolver takes, and the options
// that say how long they are waited for.
func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions timeout:2 attempts:3 rotate\nsearch a.test\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const head = "nameserver 100.127.255.253\n"
	for _, tc := range []struct {
		dns      *dag.DNS
		want     string
		patience time.Duration
	}{
		{nil, head + "nameserver 100.127.255.250\nnameserver 100.127.255.249\noptions timeout:2 attempts:3 rotate\nsearch a.test\n", 2 * time.Second},
		{&dag.DNS{Servers: []string{"192.0.2.9"}, Options: []string{"ndots:2"}}, head + "search a.test\noptions ndots:2\n", 0},
		{&dag.DNS{Servers: []string{"192.0.2.8", "192.0.2.9"}, Options: []string{"timeout:99"}}, head + "nameserver 100.127.255.250\nsearch a.test\noptions timeout:99\n", 30 * time.Second},
	} {
		got, err := ResolvConf(path, dag.NetDefault, tc.dns)
		if err != nil || string(got) != tc.want {
			t.Errorf("%+v: %v\n%s", tc.dns, err, got)
		}
		if got := patience(path, tc.dns); got != tc.patience {
			t.Errorf("%+v: a server is waited for %v", tc.dns, got)
		}
	}
}

func TestInsideAllow(t *testing.T) {
	machine(t)
	port, other := greet(t, hostAddr), greet(t, otherAddr)
	metadata := greet(t, "169.254.169.254")
	servers := []netip.AddrPort{nameServer(t, dnsmessage.RCodeNameError, map[string]string{
		"web.test": hostAddr, "a.wild.test": hostAddr, "wild.test": hostAddr, "other.test": otherAddr, "trick.test": "169.254.169.254",
	})}
	rules := []string{fmt.Sprintf("web.test:%d", port), "*.wild.test", "trick.test"}
	contacts := inNetwork(t, rules, servers, func() error {
		check := func(what, got, want string) {
			if got != want && (want != "" || got == "hello") {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		check("an address before its name was looked up", reach(hostAddr, port), "")
		for _, name := range []string{"wild.test", "other.test", "web.test.other.test"} {
			_, err := lookup(name)
			check("lookup of "+name, fmt.Sprint(err), "RCodeNameError")
		}
		got, err := lookup("Web.TEST")
		check("lookup of web.test", fmt.Sprintf("%s %v", got, err), hostAddr+" <nil>")
		check("web.test", reach(hostAddr, port), "hello")
		if err := reachUDP(hostAddr, port, 10, long); err != nil {
			t.Errorf("UDP: %v", err)
		}
		if err := ping(hostAddr, short); err == nil {
			t.Error("a rule for a port allows pings")
		}
		check("another port", reach(hostAddr, port+1), "")
		check("another address", reach(otherAddr, other), "")
		if err := reachUDP(otherAddr, other, 10, short); err == nil {
			t.Error("UDP to another address is allowed")
		}
		got, err = lookup("trick.test")
		check("lookup of trick.test", fmt.Sprintf("%s %v", got, err), "169.254.169.254 <nil>")
		check("a name of the metadata service", reach("169.254.169.254", metadata), "")
		got, err = lookup("a.wild.test")
		check("lookup of a.wild.test", fmt.Sprintf("%s %v", got, err), hostAddr+" <nil>")
		if err := ping(hostAddr, long); err != nil {
			t.Errorf("a rule for all ports allows no ping: %v", err)
		}
		if _, err := query(gatewayAddr(), "udp", "other.test", dnsmessage.TypeTXT); err != nil {
			t.Errorf("TXT: %v", err)
		}
		return nil
	})
	var text []string
	for _, c := range contacts {
		text = append(text, fmt.Sprintf("%s %s %v %v", c.Proto, c.Name, c.Addr, c.Denied))
	}
	all := strings.Join(text, "\n")
	for _, want := range []string{
		"dns other.test invalid AddrPort true", fmt.Sprintf("tcp web.test %s:%d false", hostAddr, port),
		fmt.Sprintf("tcp  %s:%d true", otherAddr, other), "tcp trick.test 169.254.169.254:",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no contact %q in\n%s", want, all)
		}
	}
}

func TestInsideAllowAddresses(t *testing.T) {
	machine(t)
	port, other := greet(t, hostAddr), greet(t, otherAddr)
	inNetwork(t, []string{hostAddr}, nil, func() error {
		if got := reach(hostAddr, port); got != "hello" {
			t.Errorf("an allowed address: %s", got)
		}
		if got := reach(otherAddr, other); got == "hello" {
			t.Error("another address is allowed")
		}
		return nil
	})
	inNetwork(t, []string{"203.0.113.0/24", "[2001:db8::/32]:1"}, nil, func() error {
		if got := reach(otherAddr, other); got != "hello" {
			t.Errorf("an allowed subnet: %s", got)
		}
		return nil
	})
}
