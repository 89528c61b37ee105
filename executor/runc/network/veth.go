package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// peerName is the other end of the container's link, where there is no TAP device.
const peerName = "gateway0"

// openVeth makes the interface as one end of a pair, whose other end is a packet
// socket: for users who may not open /dev/net/tun. Frames are read and written as
// with a TAP device. The other end is in a network namespace of its own, which
// lives as long as the socket: the container sees nothing of it. room is how many
// bytes of frames the socket keeps; more are lost.
func openVeth() (_ *os.File, room int, err error) {
	guest, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, 0, fmt.Errorf("make network device: %w", err)
	}
	defer guest.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, 0, fmt.Errorf("make network namespace: %w", err)
	}
	f, room, err := pairWith(guest)
	if back := unix.Setns(int(guest.Fd()), unix.CLONE_NEWNET); back != nil {
		err = errors.Join(err, fmt.Errorf("return to network namespace: %w", back))
	}
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return f, room, err
}

// pairWith makes the pair in the thread's network namespace, with the container's
// end in guest's.
func pairWith(guest *os.File) (_ *os.File, room int, err error) {
	if err := quietIPv6(false); err != nil {
		return nil, 0, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, 0, fmt.Errorf("make network device: %w", err)
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = peerName, linkMTU
	// Another number than the near end gets: a link that seems to be its own other
	// end is one that the kernel lets wait up to a second before it carries anything.
	attrs.Index = 1000
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: linkName, PeerMTU: linkMTU, PeerNamespace: netlink.NsFd(guest.Fd())}
	if err := h.LinkAdd(pair); err != nil {
		return nil, 0, fmt.Errorf("make network device: %w", err)
	}
	peer, err := h.LinkByName(peerName)
	if err != nil {
		return nil, 0, fmt.Errorf("find network device: %w", err)
	}
	if err := h.LinkSetUp(peer); err != nil {
		return nil, 0, fmt.Errorf("set up network device: %w", err)
	}
	f, room, err := packetSocket(peer.Attrs().Index)
	if err != nil {
		return nil, 0, fmt.Errorf("open network device: %w", err)
	}
	return f, room, nil
}

// packetSocket reads and writes the frames of an interface.
func packetSocket(index int) (_ *os.File, room int, err error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	for _, opt := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 4<<20) // the machine's root gets all of it
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return nil, 0, err
	}
	if room, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
		return nil, 0, err
	}
	room /= 3 // the kernel counts what it allocates
	return os.NewFile(uintptr(fd), "veth"), room, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}
