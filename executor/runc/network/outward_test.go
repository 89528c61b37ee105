package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/netstack"
	"layered.build/builder/executor/runc/thread"
	"layered.build/builder/fixtures"
)

const outwardEnv = "BUILDER_TEST_OUTWARD"

// How long an answer is waited for that must, and that must not come.
const long, short = fixtures.Patience, 200 * time.Millisecond

// Addresses of the machine that the tests of the network run on.
const (
	hostAddr  = "203.0.113.1"
	otherAddr = "203.0.113.2"
	hostAddr6 = "2001:db8:1::1"
)

// metadataAddrs are addresses of that machine that no container may reach.
func metadataAddrs() []string {
	return []string{"169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"}
}

// TestOutward tests the network of a container on a machine that has all that a
// container must and must not reach: a process with a network namespace of its
// own, in which addresses of documentation and of clouds are real.
func TestOutward(t *testing.T) {
	for _, tun := range []bool{true, false} {
		name := "TAP"
		if !tun {
			name = "veth"
		}
		t.Run(name, func(t *testing.T) {
			if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
				f.Close()
			} else if tun {
				t.Skip("needs TAP devices: " + err.Error())
			}
			cmd := fixtures.Again("-test.v", "-test.run=^TestInside")
			cmd.Env = append(os.Environ(), outwardEnv+"=1")
			if !tun {
				cmd.Env = append(cmd.Env, noTUNEnv+"=1")
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, unix.EPERM) {
				t.Skip("needs user namespaces: " + err.Error())
			}
			if err != nil || bytes.Count(out, []byte("\n--- PASS")) < 9 || bytes.Contains(out, []byte("--- SKIP")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// machine makes this process's network namespace such a machine.
func machine(t *testing.T) {
	t.Helper()
	if os.Getenv(outwardEnv) == "" {
		t.Skip("TestOutward runs this")
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.LinkByName("host0"); err == nil {
		return
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "host0"
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0))
	must(h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "host1"}))
	for _, name := range []string{"lo", "host0", "host1"} {
		l, err := h.LinkByName(name)
		must(err)
		must(h.LinkSetUp(l))
	}
	l, err := h.LinkByName("host0")
	must(err)
	for _, a := range append(metadataAddrs(), hostAddr, otherAddr, hostAddr6) {
		addr := netip.MustParseAddr(a)
		must(h.AddrAdd(l, address(netip.PrefixFrom(addr, addr.BitLen()))))
	}
	must(h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: make(net.IP, 16), Mask: make(net.IPMask, 16)}}))
}

// greet serves TCP and UDP at an address with a word, and returns the port.
func greet(t *testing.T, ip string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp", net.JoinHostPort(ip, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(buf[:n], from)
		}
	}()
	return port
}

// reach says what a TCP connection from the thread's namespace gives.
func reach(addr string, port int) string {
	// One address after another, so that all sockets are made on this thread.
	d := net.Dialer{Timeout: 20 * time.Second, FallbackDelay: -1}
	c, err := d.Dial("tcp", net.JoinHostPort(addr, fmt.Sprint(port)))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// reachUDP says whether a datagram comes back in time.
func reachUDP(addr string, port, size int, wait time.Duration) error {
	c, err := (&net.Dialer{FallbackDelay: -1}).Dial("udp", net.JoinHostPort(addr, fmt.Sprint(port)))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write(make([]byte, size)); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 64<<10))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came back", n)
	}
	return err
}

// ping pings from the thread's namespace.
func ping(addr string, wait time.Duration) error {
	a := netip.MustParseAddr(addr)
	family, proto, msg := unix.AF_INET, unix.IPPROTO_ICMP, []byte{8, 0, 0, 0, 1, 2, 0, 1, 'x'}
	var to unix.Sockaddr
	if a.Is4() {
		to = &unix.SockaddrInet4{Addr: a.As4()}
	} else {
		family, proto, msg = unix.AF_INET6, unix.IPPROTO_ICMPV6, []byte{128, 0, 0, 0, 1, 2, 0, 1, 'x'}
		to = &unix.SockaddrInet6{Addr: a.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if family == unix.AF_INET {
		sum := uint32(0x0800+0x0102+0x0001) + 'x'<<8
		sum = sum>>16 + sum&0xffff
		msg[2], msg[3] = byte(^sum>>8), byte(^sum)
	}
	tv := unix.NsecToTimeval(int64(wait))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	if err := unix.Sendto(fd, msg, 0, to); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		b := buf[:n]
		if family == unix.AF_INET {
			b = b[20:]
		}
		if b[0] == 0 || b[0] == 129 { // the reply
			if !bytes.Equal(b[4:], msg[4:]) {
				return fmt.Errorf("reply % x", b)
			}
			return nil
		}
	}
}

func TestInsideReach(t *testing.T) {
	machine(t)
	for _, addr := range []string{hostAddr, hostAddr6} {
		port := greet(t, addr)
		contacts := inNetwork(t, nil, nil, func() error {
			if got := reach(addr, port); got != "hello" {
				t.Errorf("%s: TCP: %s", addr, got)
			}
			for _, size := range []int{1, 1400, 30_000} {
				if err := reachUDP(addr, port, size, long); err != nil {
					t.Errorf("%s: UDP of %d bytes: %v", addr, size, err)
				}
			}
			if err := ping(addr, long); err != nil {
				t.Errorf("%s: ping: %v", addr, err)
			}
			return nil
		})
		got := map[string]netstack.Contact{}
		for _, c := range contacts {
			if c.Addr.Addr().String() != addr || c.Denied {
				t.Errorf("contact %+v", c)
			}
			got[c.Proto] = c
		}
		if c := got["tcp"]; c.Flows != 1 || c.Received != 5 || int(c.Addr.Port()) != port {
			t.Errorf("TCP contact %+v", c)
		}
		if c := got["udp"]; c.Flows != 3 || c.Sent != 31_401 || c.Received != 31_401 {
			t.Errorf("UDP contact %+v", c)
		}
		if c := got["icmp"]; c.Flows != 1 || c.Received == 0 {
			t.Errorf("ping contact %+v", c)
		}
	}
}

// What passes is what was sent, over segments of all sizes.
func TestInsideContent(t *testing.T) {
	machine(t)
	for _, addr := range []string{hostAddr, hostAddr6} {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
		data := make([]byte, 24<<20)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
		inNetwork(t, nil, nil, func() error {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			sent := make(chan error, 1)
			go func() { // the socket is made: any thread will do
				rest, n := data, 1
				for len(rest) > 0 {
					n = min(n*3%200_003+1, len(rest))
					if _, err := c.Write(rest[:n]); err != nil {
						sent <- err
						return
					}
					rest = rest[n:]
				}
				sent <- c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if !bytes.Equal(got, data) {
				t.Errorf("%s: %d of %d bytes came back, or others", addr, len(got), len(data))
			}
			return errors.Join(err, <-sent)
		})
	}
}

func TestInsideUnreachable(t *testing.T) {
	machine(t)
	common := []string{"0.0.0.0", "::", gatewayAddr().String(), gateway6Net().Addr().String(), hostAddr, hostAddr6}
	for _, addr := range append([]string{"127.0.0.1", "::1"}, metadataAddrs()...) {
		port := greet(t, addr)
		if got := reach(addr, port); got != "hello" {
			t.Fatalf("the machine itself does not reach %s: %s", addr, got)
		}
		contacts := inNetwork(t, nil, nil, func() error {
			ways := []string{addr}
			if a := netip.MustParseAddr(addr); a.Is4() {
				ways = append(ways, "::ffff:"+addr, "64:ff9b::"+addr, "::"+addr)
			}
			if netip.MustParseAddr(addr).IsLoopback() {
				ways = append(ways, common...)
			}
			for _, way := range ways {
				if got := reach(way, port); got == "hello" {
					t.Errorf("%s is reached as %s", addr, way)
				}
				if err := reachUDP(way, port, 1, short); err == nil {
					t.Errorf("%s is reached by UDP as %s", addr, way)
				}
			}
			if a := netip.MustParseAddr(addr); !a.IsLoopback() {
				if err := ping(addr, short); err == nil {
					t.Errorf("%s can be pinged", addr)
				}
			}
			return nil
		})
		seen := false
		for _, c := range contacts {
			seen = seen || c.Denied && c.Proto == "tcp" && c.Addr.Addr().String() == addr
		}
		if !netip.MustParseAddr(addr).IsLoopback() && !seen {
			t.Errorf("%s: no record of the attempt in %+v", addr, contacts)
		}
	}
}

func TestInsideGateway(t *testing.T) {
	machine(t)
	inNetwork(t, nil, nil, func() error {
		return errors.Join(ping(gatewayAddr().String(), long), ping(gateway6Net().Addr().String(), long))
	})
}

func TestInsideNamespace(t *testing.T) {
	machine(t)
	port := greet(t, "127.0.0.1")
	path := fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	err := thread.Run(thread.AllButNetwork, func() error {
		if err := joinNetwork(path); err != nil {
			return err
		}
		if got := reach("127.0.0.1", port); got != "hello" {
			t.Errorf("in the joined namespace: %s", got)
		}
		if err := joinNetwork("/proc/self/ns/uts"); err == nil || !strings.Contains(err.Error(), "is none") {
			t.Errorf("a namespace of another kind: %v", err)
		}
		if err := joinNetwork("/nowhere"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file that is not there: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Serve ends, with all that it started, while connections are open.
func TestInsideEnd(t *testing.T) {
	machine(t)
	l, err := net.Listen("tcp", net.JoinHostPort(hostAddr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), fixtures.Patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		inNetwork(t, nil, nil, func() error {
			c, err := net.Dial("tcp", l.Addr().String())
			if err == nil {
				_, err = c.Write([]byte("x"))
			}
			return err // and leaves it open
		})
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("the network does not end")
	}
}
