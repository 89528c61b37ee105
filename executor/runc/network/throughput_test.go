package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/netstack"
	"layered.build/builder/executor/runc/thread"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/fixtures"
)

// The bytes that a connection of a benchmark moves.
const bulk = 512 << 20

// bulkServer serves TCP connections: it sends bulk bytes to who sends "d", and
// receives them from others.
func bulkServer(tb testing.TB) string {
	l, err := net.Listen("tcp4", net.JoinHostPort(sandboxtest.HostAddr(tb).String(), "0"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var what [1]byte
				if _, err := io.ReadFull(c, what[:]); err != nil {
					return
				}
				if what[0] == 'd' {
					_ = pump(c)
					return
				}
				n, _ := drainAll(c)
				fmt.Fprintf(c, "%d", n)
			}()
		}
	}()
	return l.Addr().String()
}

func pump(w io.Writer) error {
	chunk := make([]byte, 256<<10)
	for range bulk / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

func drainAll(r io.Reader) (n int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		m, err := r.Read(buf)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
}

// transfer moves bulk bytes from the thread's network namespace.
func transfer(server string, up bool) error {
	c, err := net.Dial("tcp4", server) // one address: on this thread
	if err != nil {
		return err
	}
	defer c.Close()
	if !up {
		if _, err := c.Write([]byte("d")); err != nil {
			return err
		}
		if n, err := drainAll(c); n != bulk {
			return fmt.Errorf("received %d bytes: %w", n, err)
		}
		return nil
	}
	if _, err := c.Write([]byte("u")); err != nil {
		return err
	}
	if err := pump(c); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if b, err := io.ReadAll(c); string(b) != fmt.Sprint(bulk) {
		return fmt.Errorf("the server got %q: %w", b, err)
	}
	return nil
}

// inNetwork runs f on a thread that has the network of a container with the given
// hosts and name servers, and returns what it talked to.
func inNetwork(tb testing.TB, allow []string, nameservers []netip.AddrPort, f func() error) []netstack.Contact {
	tb.Helper()
	cfg, err := Options{ResolvConf: "/dev/null", IPv6: HasIPv6(), Allow: allow}.gateway()
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Nameservers = nameservers
	var n *Network
	var wg sync.WaitGroup
	defer wg.Wait()
	err = thread.Run(thread.AllNamespaces, func() error {
		var err error
		if n, err = serve(cfg); err != nil {
			return err
		}
		return errors.Join(f(), n.Close(&wg))
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n.contacts
}

// BenchmarkThroughput measures the container's network in both directions, over
// a TAP device and over what takes its place where there is none. It needs root;
// TestThroughputInUserNamespace runs it in a user namespace.
func BenchmarkThroughput(b *testing.B) {
	server := bulkServer(b)
	for _, dir := range []string{"down", "up"} {
		b.Run(dir, func(b *testing.B) {
			b.SetBytes(bulk)
			inNetwork(b, nil, nil, func() error {
				for b.Loop() {
					if err := transfer(server, dir == "up"); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

const (
	throughputEnv = "BUILDER_TEST_THROUGHPUT"
	noTUNEnv      = "BUILDER_TEST_NO_TUN"
)

// hideTUN makes this process, which has a mount namespace of its own, find no
// /dev/net/tun.
func hideTUN() error {
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("hide /dev/net: %w", err)
	}
	return nil
}

// TestThroughputInUserNamespace proves that an unprivileged user's namespace gets
// the same network, with and without TAP devices, and that bulk data passes it.
// $BUILDER_TEST_THROUGHPUT is a lower limit of the throughput in Mbit/s, which is
// otherwise only told.
func TestThroughputInUserNamespace(t *testing.T) {
	for _, name := range []string{"TAP", "veth"} {
		t.Run(name, func(t *testing.T) { testThroughput(t, name == "veth") })
	}
}

func testThroughput(t *testing.T, noTUN bool) {
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
		f.Close()
	} else if !noTUN {
		t.Skip("needs TAP devices: " + err.Error())
	}
	cmd := fixtures.Again("-test.run=^$", "-test.bench=^BenchmarkThroughput$", "-test.benchtime=1x")
	if noTUN {
		cmd.Env = append(os.Environ(), noTUNEnv+"=1")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		if strings.Contains(err.Error(), "operation not permitted") {
			t.Skip("needs user namespaces: " + err.Error())
		}
		t.Fatalf("%v\n%s", err, out)
	}
	measured := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		var name string
		var n int
		var ns, mbytes float64
		if _, err := fmt.Sscanf(line, "%s %d %f ns/op %f MB/s", &name, &n, &ns, &mbytes); err != nil {
			continue
		}
		t.Logf("%s: %.1f Gbit/s", name, mbytes*8/1000)
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "BenchmarkThroughput/"), "-")
		measured[name] = mbytes > 0
		if least := os.Getenv(throughputEnv); least != "" {
			var want float64
			if _, err := fmt.Sscan(least, &want); err != nil || mbytes*8 < want {
				t.Errorf("%s: %.0f Mbit/s, want %s", name, mbytes*8, least)
			}
		}
	}
	if !measured["down"] || !measured["up"] {
		t.Errorf("measured %v, want down and up:\n%s", measured, out)
	}
}
