package netstack

import (
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

var _ stack.LinkEndpoint = (*device)(nil)

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
		// Not RawConn.Write, which would wait: a frame that the device does not
		// take is lost, as on any network.
		cerr := rc.Control(func(fd uintptr) { _, werr = unix.Writev(int(fd), pkt.AsSlices()) })
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
