package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
)

// loopbackOnly is the whole network of a process without one.
func loopbackOnly() error {
	h, err := openNetlink()
	if err != nil {
		return err
	}
	defer h.Close()
	return loopbackUp(h)
}

func openNetlink() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("set up network: %w", err)
	}
	return h, nil
}

func loopbackUp(h *netlink.Handle) error {
	if err := h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
		return fmt.Errorf("set up loopback: %w", err)
	}
	return nil
}

// openLink makes the interface in the namespace of the thread, with addresses and
// routes, and returns the other end of it: frames, each behind a virtio_net_hdr.
//
// That is a TAP device, or, where there is none (a container without /dev/net/tun,
// a user who may not open it), a packet socket on the other end of a veth pair,
// which lies in a namespace of its own that nothing but the socket keeps. room is
// how much fits into such a socket before frames are lost.
func openLink(ipv6 bool) (file *os.File, room int, err error) {
	if err := quietIPv6(ipv6); err != nil {
		return nil, 0, err
	}
	file, err = openTAP()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		var verr error
		if file, room, verr = openVeth(); verr != nil {
			return nil, 0, fmt.Errorf("the default network (networks \"none\" and \"host\" do not need it): %w", errors.Join(err, verr))
		}
	} else if err != nil {
		return nil, 0, err
	}
	h, err := openNetlink()
	if err == nil {
		defer h.Close()
		err = errors.Join(loopbackUp(h), configureLink(h, ipv6))
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, room, nil
}

// quietIPv6 says how interfaces of this namespace begin: without IPv6 (an address
// of the link alone would make programs try it first; the loopback keeps ::1), or
// with the address that is given to them, at once and without asking around.
func quietIPv6(want bool) error {
	settings := [][2]string{{"disable_ipv6", "1"}}
	if want {
		settings = [][2]string{{"addr_gen_mode", "1"}, {"accept_ra", "0"}}
	}
	for _, s := range settings {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/"+s[0], []byte(s[1]), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) && !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("set up IPv6: %w", err)
		}
	}
	return nil
}

// openTAP makes the interface; it lives as long as its network namespace.
func openTAP() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(linkName)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err == nil {
		// What is handed over needs no checksum, and TCP need not be cut.
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
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

func configureLink(h *netlink.Handle, ipv6 bool) error {
	link, err := h.LinkByName(linkName)
	if err != nil {
		return fmt.Errorf("find network device: %w", err)
	}
	if err := h.LinkSetMTU(link, linkMTU); err != nil {
		return fmt.Errorf("set MTU: %w", err)
	}
	if err := h.AddrAdd(link, address(netip.PrefixFrom(guestAddr(), 30))); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if ipv6 {
		if err := h.AddrAdd(link, address(netip.PrefixFrom(guest6Addr(), gateway6Net().Bits()))); err != nil {
			return fmt.Errorf("set IPv6 address: %w", err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up network device: %w", err)
	}
	gateways := []netip.Addr{gatewayAddr()}
	if ipv6 {
		gateways = append(gateways, gateway6Net().Addr())
	}
	for _, gw := range gateways {
		if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("set route: %w", err)
		}
	}
	return nil
}

// address is one that is used at once, without asking whether others have it.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// Usage counts what went through the interface of the calling thread's
// network namespace.
func Usage() *sandbox.NetworkUsage {
	u := &sandbox.NetworkUsage{}
	b, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(b)) {
		name, counters, _ := strings.Cut(line, ":")
		if f := strings.Fields(counters); strings.TrimSpace(name) == linkName && len(f) > 8 {
			u.RxBytes, _ = strconv.ParseInt(f[0], 10, 64)
			u.TxBytes, _ = strconv.ParseInt(f[8], 10, 64)
		}
	}
	return u
}
