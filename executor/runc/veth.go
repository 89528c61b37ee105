package runc

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// peerName is the other end of the container's link, where there is no TAP device.
const peerName = "gateway0"

// openVeth makes the interface as one end of a pair, whose other end is a packet
// socket: for users who may not open /dev/net/tun. Frames are read and written as
// with a TAP device. The other end is in a network namespace of its own, which
// lives as long as the socket: the container sees nothing of it.
func openVeth() (_ *os.File, err error) {
	disableIPv6()
	guest, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("make network device: %w", err)
	}
	defer guest.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	f, err := pairWith(guest)
	if back := unix.Setns(int(guest.Fd()), unix.CLONE_NEWNET); back != nil {
		err = errors.Join(err, fmt.Errorf("return to network namespace: %w", back))
	}
	if err == nil {
		err = checksumBySoftware(linkName)
	}
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return f, err
}

// pairWith makes the pair in the thread's network namespace, with the container's
// end in guest's.
func pairWith(guest *os.File) (*os.File, error) {
	disableIPv6()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("make network device: %w", err)
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = peerName, linkMTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: linkName, PeerMTU: linkMTU, PeerNamespace: netlink.NsFd(guest.Fd())}
	if err := h.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("make network device: %w", err)
	}
	peer, err := h.LinkByName(peerName)
	if err != nil {
		return nil, fmt.Errorf("find network device: %w", err)
	}
	if err := h.LinkSetUp(peer); err != nil {
		return nil, fmt.Errorf("set up network device: %w", err)
	}
	f, err := packetSocket(peer.Attrs().Index)
	if err != nil {
		return nil, fmt.Errorf("open network device: %w", err)
	}
	return f, nil
}

// packetSocket reads and writes the frames of an interface.
func packetSocket(index int) (_ *os.File, err error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	return os.NewFile(uintptr(fd), "veth"), unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

// checksumBySoftware makes the kernel compute checksums before a frame is sent on
// the container's interface, and cut what is larger than the MTU: frames come as
// they would be on a wire.
func checksumBySoftware(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set checksums of %s: %w", name, err)
	}
	defer unix.Close(fd)
	const setTxChecksum = 0x17 // ETHTOOL_STXCSUM
	value := struct{ cmd, data uint32 }{setTxChecksum, 0}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], name)
	req.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("set checksums of %s: %w", name, errno)
	}
	return nil
}
