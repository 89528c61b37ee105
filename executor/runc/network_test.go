package runc

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/runc/network"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

// A name server on this machine's loopback, which containers cannot reach, is
// reached through the gateway.
func TestNameserver(t *testing.T) {
	const server = "127.0.0.153"
	udp, err := net.ListenPacket("udp4", server+":53")
	if err != nil {
		t.Skip("needs port 53: " + err.Error())
	}
	t.Cleanup(func() { udp.Close() })
	go serveDNS(udp)
	silent, err := net.ListenPacket("udp4", "127.0.0.154:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# dead server first\nnameserver 127.0.0.154\nnameserver " + server + "\nsearch example.test\noptions ndots:2 timeout:1 attempts:1\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{StateDir: t.TempDir(), ResolvConf: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e := sandboxtest.NewEnv(t, s)
	spec := e.Shell("cat /etc/resolv.conf; nslookup -type=a web.example.test")
	spec.Network = dag.NetDefault
	got := e.Must(t, spec)
	for _, want := range []string{
		"nameserver 100.127.255.253\nnameserver 100.127.255.250\nsearch example.test\noptions ndots:2 timeout:1 attempts:1\n",
		"10.9.8.7",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if strings.Contains(got, "127.0.0") && strings.Contains(got, "nameserver 127") {
		t.Errorf("loopback server shown: %q", got)
	}
}

// A container has IPv6 if the machine has.
func TestIPv6(t *testing.T) {
	e := sandboxtest.NewEnv(t, newSandbox(t))
	spec := e.Shell("ip -6 route | grep -c default; grep -c eth0 /proc/net/if_inet6")
	spec.Network = dag.NetDefault
	want := "0\n0"
	if network.HasIPv6() {
		want = "1\n1"
	}
	if got := strings.TrimSpace(e.Run(t, spec).Out); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// serveDNS answers every question for an address with 10.9.8.7.
func serveDNS(c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		q := buf[:n]
		end := 12
		for end < n && q[end] != 0 {
			end += int(q[end]) + 1
		}
		end += 5 // root label, type, class
		if end > n {
			continue
		}
		answer := append([]byte(nil), q[:end]...)
		binary.BigEndian.PutUint16(answer[2:], 0x8180)
		binary.BigEndian.PutUint16(answer[6:], 1) // answers
		binary.BigEndian.PutUint32(answer[8:], 0)
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 8, 7)
		_, _ = c.WriteTo(answer, from)
	}
}

// BenchmarkDownload measures bytes a second into a container. It runs this
// machine's curl.
func BenchmarkDownload(b *testing.B) {
	if _, err := os.Stat("/usr/bin/curl"); err != nil {
		b.Skip("needs curl")
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(sandboxtest.HostAddr(b).String(), "0"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const size = 1 << 30
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			chunk := make([]byte, 256<<10)
			for i := 0; i < size/len(chunk); i++ {
				if _, err := c.Write(chunk); err != nil {
					break
				}
			}
			c.Close()
		}
	}()
	e := sandboxtest.NewEnv(b, newSandbox(b))
	b.SetBytes(size)
	for b.Loop() {
		spec := e.Spec("/usr/bin/curl", "-sf", "-o", "/dev/null", "http://"+l.Addr().String()+"/")
		spec.Network = dag.NetDefault
		for _, d := range []string{"/usr", "/lib", "/lib64"} {
			spec.Mounts = append(spec.Mounts, sandbox.Mount{Dest: d, HostPath: d, ReadOnly: true})
		}
		if exit, err := e.Sandbox.Run(b.Context(), spec); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}
