package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor"
	"layered.build/builder/executor/runc/netstack"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/netrule"
	"layered.build/builder/planner/dag"
)

// The container's network: a subnet of two addresses at the far end of the range
// for carriers (RFC 6598), and a local one of IPv6 (RFC 4193), where they hide
// nothing that is likely to be used. A process that has a local IPv6 address only
// prefers IPv4 for hosts that have both (RFC 6724).
const (
	linkName = "eth0"
	linkMTU  = 65520 // few, large packets: nothing but memory lies between
)

func gatewayAddr() netip.Addr { return netip.AddrFrom4([4]byte{100, 127, 255, 253}) }

// otherNames are addresses beside the gateway's for the second and the third name
// server: a resolver waits for each, and chooses among them, as its options say. They
// are the gateway's, since the route leads there.
func otherNames() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{100, 127, 255, 250}), netip.AddrFrom4([4]byte{100, 127, 255, 249})}
}

func guestAddr() netip.Addr { return netip.AddrFrom4([4]byte{100, 127, 255, 254}) }

// gateway6Net is the gateway's IPv6 address in its subnet.
func gateway6Net() netip.Prefix { return netip.MustParsePrefix("fd64:7fff:fffd::1/64") }

func guest6Addr() netip.Addr { return gateway6Net().Addr().Next() }

// Network is the user-mode network of one run.
type Network struct {
	cancel   context.CancelFunc
	done     chan error
	tap      *os.File
	contacts []netstack.Contact // valid after Close
}

// Own says whether a run gets a network namespace of its own.
func Own(n dag.Network) bool { return n == dag.NetDefault || n == dag.NetNone }

// Options say which network a container has.
type Options struct {
	Network dag.Network
	// ResolvConf is this machine's resolv.conf, whose servers are asked if DNS, which
	// may be nil, names none.
	ResolvConf string
	DNS        *dag.DNS
	// IPv6: the machine has it (see HasIPv6).
	IPv6 bool
	// Allow are the only destinations, in the form of package netrule; none allows all.
	Allow []string
	// Denied is told of every destination that is refused; it may be nil.
	Denied func(executor.Contact)
}

// Setup configures the network namespace that the calling thread is in. The
// network is nil if nothing serves it; else the caller closes it.
func Setup(o Options) (*Network, error) {
	if path, ok := o.Network.Namespace(); ok {
		return nil, joinNetwork(path)
	}
	if o.Network == dag.NetHost {
		return nil, nil
	}
	if o.Network == dag.NetNone {
		return nil, loopbackOnly()
	}
	cfg, err := o.gateway()
	if err != nil {
		return nil, err
	}
	return serve(cfg)
}

// serve gives the thread's namespace its interface and serves it.
func serve(cfg netstack.Config) (*Network, error) {
	tap, room, err := openLink(cfg.Gateway6.IsValid())
	if err != nil {
		return nil, err
	}
	cfg.Window = room
	n := &Network{tap: tap, done: make(chan error, 1)}
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	go func() {
		contacts, err := netstack.Serve(ctx, tap, cfg)
		n.contacts = contacts
		n.done <- err
	}()
	return n, nil
}

// gateway describes the other end of the container's network.
func (o Options) gateway() (netstack.Config, error) {
	cfg := netstack.Config{
		Gateway:     netip.PrefixFrom(gatewayAddr(), 30),
		MAC:         [6]byte{0x02, 0x42, 0x64, 0x7f, 0xff, 0xfd},
		MTU:         linkMTU,
		Nameservers: servers(o.ResolvConf, o.DNS),
		Others:      otherNames(),
		Patience:    patience(o.ResolvConf, o.DNS),
	}
	if o.IPv6 {
		cfg.Gateway6 = gateway6Net()
	}
	for _, a := range o.Allow {
		rule, err := netrule.Parse(a)
		if err != nil {
			return cfg, fmt.Errorf("allowed network: %w", err)
		}
		cfg.Allow = append(cfg.Allow, rule)
	}
	if tell := o.Denied; tell != nil {
		cfg.Denied = func(c netstack.Contact) { tell(executor.Contact(c)) }
	}
	return cfg, nil
}

// HasIPv6 reports whether this machine has a route to the IPv6 internet. To
// connect a UDP socket sends nothing.
func HasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	documentation := netip.MustParseAddr("2001:db8::1").As16()
	return unix.Connect(fd, &unix.SockaddrInet6{Addr: documentation, Port: 9}) == nil
}

// joinNetwork enters an existing network namespace.
func joinNetwork(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("join network namespace: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	defer unix.Close(fd)
	err = unix.Setns(fd, unix.CLONE_NEWNET)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("join network namespace: %s is none", path)
	}
	if err != nil {
		return fmt.Errorf("join network namespace: %w", &os.PathError{Op: "setns", Path: path, Err: err})
	}
	return nil
}

// Close ends the stack, then the device. The kernel lets who closes a packet socket
// wait for all other processors, 10 ms and more; only behind does that cost nothing.
func (n *Network) Close(behind *sync.WaitGroup) error {
	n.cancel()
	err := <-n.done
	behind.Go(func() { n.tap.Close() })
	return err
}

// Account tells what the container talked to. The stack is ended.
func (n *Network) Account(e *sandbox.Exit) {
	for _, c := range n.contacts {
		e.Contacts = append(e.Contacts, executor.Contact(c))
	}
}
