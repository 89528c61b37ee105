package runc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/netstack"
	"layered.build/builder/planner/dag"
)

// The container's network: a subnet of two addresses at the far end of the range
// for carriers (RFC 6598), where it hides nothing that is likely to be used.
const (
	linkName = "eth0"
	linkMTU  = 65520 // few, large packets: nothing but memory lies between
)

func gatewayAddr() netip.Addr { return netip.AddrFrom4([4]byte{100, 127, 255, 253}) }

func guestAddr() netip.Addr { return netip.AddrFrom4([4]byte{100, 127, 255, 254}) }

// network is the user-mode network of one run.
type network struct {
	cancel context.CancelFunc
	done   chan error
	tap    *os.File
}

// setupNetwork configures the network namespace that the thread is in.
func (r *run) setupNetwork() error {
	if r.spec.Network == dag.NetHost {
		return nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("set up network: %w", err)
	}
	defer h.Close()
	if err := h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	if r.spec.Network == dag.NetNone {
		return nil
	}
	tap, err := openTAP()
	if errors.Is(err, errNoTUN) {
		tap, err = openVeth()
	}
	if err != nil {
		return err
	}
	if err := configureLink(h); err != nil {
		tap.Close()
		return err
	}
	r.net = &network{tap: tap, done: make(chan error, 1)}
	var ctx context.Context
	ctx, r.net.cancel = context.WithCancel(context.Background())
	cfg := netstack.Config{
		Gateway:     netip.PrefixFrom(gatewayAddr(), 30),
		MAC:         [6]byte{0x02, 0x42, 0x64, 0x7f, 0xff, 0xfd},
		MTU:         linkMTU,
		Nameservers: servers(r.s.opts.ResolvConf, r.spec.DNS),
	}
	go func() { r.net.done <- netstack.Serve(ctx, tap, cfg) }()
	return nil
}

// disableIPv6 does so for the interface that is going to be made: only IPv4 is
// forwarded, and an interface with a link-local IPv6 address would make programs
// try IPv6 first. The loopback keeps ::1. Where it may not be done it stays.
func disableIPv6() {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
}

// errNoTUN says that this process may not make TAP devices.
var errNoTUN = errors.New("no access to /dev/net/tun")

// openTAP makes the interface; it lives as long as its network namespace.
func openTAP() (*os.File, error) {
	disableIPv6()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTUN, err)
	}
	req, err := unix.NewIfreq(linkName)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		// To close a device takes up to 30 ms, in which the kernel waits for all
		// other processors. A device that persists is taken away with its namespace,
		// by the kernel's own thread.
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make network device: %w", err)
	}
	return os.NewFile(uintptr(fd), "tap"), nil
}

func configureLink(h *netlink.Handle) error {
	link, err := h.LinkByName(linkName)
	if err != nil {
		return fmt.Errorf("find network device: %w", err)
	}
	if err := h.LinkSetMTU(link, linkMTU); err != nil {
		return fmt.Errorf("set MTU: %w", err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: guestAddr().AsSlice(), Mask: net.CIDRMask(30, 32)}}
	if err := h.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up network device: %w", err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gatewayAddr().AsSlice()}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("set route: %w", err)
	}
	return nil
}

// close ends the stack, then the device.
func (n *network) close() error {
	n.cancel()
	err := <-n.done
	return errors.Join(err, n.tap.Close())
}
