package sandboxtest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
)

// HostAddr is an IPv4 address of this machine that is not loopback.
func HostAddr(t testing.TB) net.IP {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.To4()
		}
	}
	t.Skip("this machine has no address but loopback")
	return nil
}

// listen serves TCP connections with f.
func listen(t *testing.T, ip net.IP, f func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func testNoNetwork(t *testing.T, e *Env) {
	got := e.Must(t, e.Shell("ls /sys/class/net; ip -4 addr show lo | grep -o 127.0.0.1; ip route"))
	if got != "lo\n127.0.0.1" {
		t.Errorf("got %q", got)
	}
}

func testHostNetwork(t *testing.T, e *Env) {
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	spec := e.Shell("ls /sys/class/net")
	spec.Network = dag.NetHost
	got := strings.Fields(e.Must(t, spec))
	if len(got) != len(ifs) {
		t.Errorf("got %q, want %d interfaces", got, len(ifs))
	}
}

func testNetworkTCP(t *testing.T, e *Env) {
	ip := HostAddr(t)
	// Answers when the other side has closed its half.
	port := listen(t, ip, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %d bytes\n", len(b))
	})
	spec := e.Shell(fmt.Sprintf("ls /sys/class/net; head -c 3000000 /dev/zero | nc %s %d", ip, port))
	spec.Network = dag.NetDefault
	if got := e.Must(t, spec); got != "eth0\nlo\ngot 3000000 bytes" {
		t.Errorf("got %q", got)
	}
	port = listen(t, ip, func(c net.Conn) { _, _ = io.CopyN(c, zeros{}, 20<<20) })
	spec = e.Shell(fmt.Sprintf("nc %s %d </dev/null | wc -c", ip, port))
	spec.Network = dag.NetDefault
	if got := e.Must(t, spec); got != "20971520" {
		t.Errorf("download: %q", got)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func testNetworkUDP(t *testing.T, e *Env) {
	ip := HostAddr(t)
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromUDP(buf)
			if err != nil {
				return
			}
			// A tftp error that quotes the request.
			name, _, _ := strings.Cut(string(buf[2:n]), "\x00")
			_, _ = c.WriteToUDP([]byte("\x00\x05\x00\x01no "+name+"\x00"), from)
		}
	}()
	port := c.LocalAddr().(*net.UDPAddr).Port
	spec := e.Shell(fmt.Sprintf("cd /tmp; tftp -g -r something %s %d", ip, port))
	spec.Network = dag.NetDefault
	if r := e.Run(t, spec); !strings.Contains(r.Err, "no something") {
		t.Errorf("got %+v", r)
	}
}

func testNetworkRefused(t *testing.T, e *Env) {
	ip := HostAddr(t)
	l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	spec := e.Shell(fmt.Sprintf("nc %s %d </dev/null", ip, port))
	spec.Network = dag.NetDefault
	if r := e.Run(t, spec); r.Code == 0 || !strings.Contains(r.Err, "refused") {
		t.Errorf("got %+v", r)
	}
}

func testHostLoopback(t *testing.T, e *Env) {
	port := listen(t, net.IPv4(127, 0, 0, 1), func(c net.Conn) { fmt.Fprintln(c, "secret") })
	gateway := `$(ip route | grep default | cut -d' ' -f3)`
	for _, addr := range []string{"127.0.0.1", gateway, "0.0.0.0", "169.254.169.254"} {
		spec := e.Shell(fmt.Sprintf("nc -w 3 %s %d </dev/null", addr, port))
		spec.Network = dag.NetDefault
		if r := e.Run(t, spec); r.Code == 0 || strings.Contains(r.Out, "secret") {
			t.Errorf("%s: reached: %+v", addr, r)
		}
	}
	spec := e.Shell("ping -c 1 -W 3 " + gateway)
	spec.Network = dag.NetDefault
	if r := e.Run(t, spec); r.Code != 0 {
		t.Errorf("ping of the gateway: %+v", r)
	}
}
