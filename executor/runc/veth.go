package runc

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// peerName is the other end of the container's link, in the same namespace, where
// there is no TAP device.
const peerName = "gateway0"

// openVeth makes the interface as one end of a pair, whose other end is a packet
// socket: for users who may not open /dev/net/tun. Frames are read and written as
// with a TAP device.
func openVeth(h *netlink.Handle) (*os.File, error) {
	disableIPv6()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = linkName, linkMTU
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peerName, PeerMTU: linkMTU}); err != nil {
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
	// Frames come as the sender's kernel would put them on a wire.
	for _, end := range []string{linkName, peerName} {
		if err := checksumBySoftware(fd, end); err != nil {
			return nil, err
		}
	}
	return os.NewFile(uintptr(fd), "veth"), unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

// checksumBySoftware makes the kernel compute checksums before a frame is sent on
// an interface, and cut what is larger than the MTU.
func checksumBySoftware(fd int, name string) error {
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
