package netstack

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// maxHead holds the headers of a frame. The stack copies the part of a frame
	// that it looks at, so that headers lie apart from what they carry.
	maxHead = header.EthernetMinimumSize + header.IPv6MinimumSize + header.TCPHeaderMaximumSize
	// maxBody is the rest of the largest frame.
	maxBody = 64 << 10
)

// frames reads frames of the namespace, one at a time.
type frames struct {
	rc   syscall.RawConn
	vnet [vnetHeaderSize]byte // says nothing that the stack wants to know
	buf  [maxHead]byte
	body *buffer.View

	// The frame that was read: its beginning, valid until the next read, and the
	// size of the whole.
	head []byte
	size int
}

func newFrames(tap *os.File) (*frames, error) {
	rc, err := tap.SyscallConn()
	return &frames{rc: rc, body: buffer.NewViewSize(maxBody)}, err
}

// read waits for the next frame.
func (f *frames) read() error {
	var n int
	var rerr error
	to := [][]byte{f.vnet[:], f.buf[:], f.body.AsSlice()}
	err := f.rc.Read(func(fd uintptr) bool {
		n, rerr = unix.Readv(int(fd), to)
		return rerr != unix.EAGAIN && rerr != unix.EINTR
	})
	if err == nil {
		err = rerr
	}
	f.size = max(0, n-vnetHeaderSize)
	f.head = f.buf[:min(f.size, maxHead)]
	return err
}

// take hands the frame over.
func (f *frames) take() buffer.Buffer {
	b := buffer.MakeWithData(f.head)
	rest := f.size - len(f.head)
	switch {
	case rest == 0:
	case rest < maxBody/2: // copied, lest a little keeps much memory
		_ = b.Append(buffer.NewViewWithData(f.body.AsSlice()[:rest]))
	default:
		f.body.CapLength(rest)
		_ = b.Append(f.body)
		f.body = buffer.NewViewSize(maxBody)
	}
	return b
}

// bytes copies the frame.
func (f *frames) bytes() []byte {
	return append(append([]byte(nil), f.head...), f.body.AsSlice()[:f.size-len(f.head)]...)
}
