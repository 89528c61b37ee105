package netstack

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// device is the stack's link endpoint: frames go straight to the TAP device,
// without a queue and a goroutine between.
type device struct {
	tap  *os.File
	mtu  uint32
	addr tcpip.LinkAddress

	mu         sync.RWMutex // guards dispatcher
	dispatcher stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*device)(nil)
	_ stack.GSOEndpoint  = (*device)(nil)
)

// vnetHeaderSize is the size of what stands before every frame, in both
// directions: struct virtio_net_hdr of linux/virtio_net.h. It says that a checksum
// is still to be made and that a TCP segment is still to be cut, which in a
// machine's own memory nobody has to do.
const vnetHeaderSize = 10

// vnetHeader describes a packet of the stack.
func vnetHeader(pkt *stack.PacketBuffer) (h [vnetHeaderSize]byte) {
	gso := pkt.GSOOptions
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		return h
	}
	put := binary.NativeEndian.PutUint16
	h[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	put(h[2:], uint16(pkt.HeaderSize()))
	put(h[6:], header.EthernetMinimumSize+gso.L3HdrLen)
	put(h[8:], gso.CsumOffset)
	if pkt.Data().Size() > int(gso.MSS) {
		h[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
		if gso.Type == stack.GSOTCPv6 {
			h[1] = 4 // VIRTIO_NET_HDR_GSO_TCPV6
		}
		put(h[4:], gso.MSS)
	}
	return h
}

func newDevice(tap *os.File, cfg Config) *device {
	return &device{
		tap:  tap,
		mtu:  uint32(cfg.MTU) + header.EthernetMinimumSize, // the ethernet layer takes its header off
		addr: tcpip.LinkAddress(cfg.MAC[:]),
	}
}

// deliver hands a frame that came from the namespace to the stack.
func (d *device) deliver(pkt *stack.PacketBuffer) {
	d.mu.RLock()
	disp := d.dispatcher
	d.mu.RUnlock()
	if disp != nil {
		disp.DeliverNetworkPacket(0, pkt)
	}
}

// WritePackets implements stack.LinkEndpoint.
func (d *device) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	rc, err := d.tap.SyscallConn()
	if err != nil {
		return 0, &tcpip.ErrClosedForSend{}
	}
	n := 0
	for _, pkt := range pkts.AsSlice() {
		var werr error
		h := vnetHeader(pkt)
		frame := append([][]byte{h[:]}, pkt.AsSlices()...)
		// Not RawConn.Write, which would wait: a frame that the device does not
		// take is lost, as on any network.
		cerr := rc.Control(func(fd uintptr) { _, werr = unix.Writev(int(fd), frame) })
		if cerr != nil {
			return n, &tcpip.ErrClosedForSend{}
		}
		if werr != nil {
			return n, &tcpip.ErrNoBufferSpace{}
		}
		n++
	}
	return n, nil
}

// Attach implements stack.LinkEndpoint.
func (d *device) Attach(disp stack.NetworkDispatcher) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dispatcher = disp
}

// IsAttached implements stack.LinkEndpoint.
func (d *device) IsAttached() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.dispatcher != nil
}

// MTU implements stack.LinkEndpoint.
func (d *device) MTU() uint32 { return d.mtu }

// SetMTU implements stack.LinkEndpoint; the MTU does not change.
func (d *device) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (d *device) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (d *device) LinkAddress() tcpip.LinkAddress { return d.addr }

// SetLinkAddress implements stack.LinkEndpoint; the address does not change.
func (d *device) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. What arrives was made by this
// machine's kernel and needs no check.
func (d *device) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// GSOMaxSize implements stack.GSOEndpoint.
func (d *device) GSOMaxSize() uint32 { return maxSegment }

// SupportedGSO implements stack.GSOEndpoint.
func (d *device) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Wait implements stack.LinkEndpoint.
func (d *device) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (d *device) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint; the ethernet layer does it.
func (d *device) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint; the ethernet layer does it.
func (d *device) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint; the device is Serve's caller's.
func (d *device) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (d *device) SetOnCloseAction(func()) {}

// writeFrame sends a frame that the stack did not make; one that the device does
// not take is lost.
func (d *device) writeFrame(frame []byte) {
	rc, err := d.tap.SyscallConn()
	if err != nil {
		return
	}
	var h [vnetHeaderSize]byte
	_ = rc.Control(func(fd uintptr) { _, _ = unix.Writev(int(fd), [][]byte{h[:], frame}) })
}
