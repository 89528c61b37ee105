package confine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Loader gives a prepared container its seccomp programs. At that moment the
// container's main thread has nothing left to do but to execute the user's
// program; it waits to open a fifo.
type Loader struct {
	parent *os.File
	// Child is the end for the container's first process (see Receive).
	Child *os.File
}

// NewLoader makes a loader. The caller closes it.
func NewLoader() (*Loader, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make seccomp socket: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that deadlines work
		return nil, fmt.Errorf("make seccomp socket: %w", err)
	}
	return &Loader{
		parent: os.NewFile(uintptr(fds[0]), "seccomp-parent"),
		Child:  os.NewFile(uintptr(fds[1]), "seccomp-child"),
	}, nil
}

// Load returns when the program is in force.
func (l *Loader) Load(prog []byte) error {
	_, err := l.put(prog, 0)
	return err
}

// Listen loads a program whose notifications come from the file that it returns.
func (l *Loader) Listen(prog []byte) (*os.File, error) {
	f, err := l.put(prog, 1)
	if err == nil && f == nil {
		err = errors.New("load seccomp program: no listener")
	}
	return f, err
}

func (l *Loader) put(prog []byte, notify uint32) (*os.File, error) {
	_ = l.parent.SetDeadline(time.Now().Add(time.Minute))
	msg := binary.NativeEndian.AppendUint32(nil, uint32(len(prog)))
	msg = binary.NativeEndian.AppendUint32(msg, notify)
	if _, err := l.parent.Write(append(msg, prog...)); err != nil {
		return nil, fmt.Errorf("send seccomp program: %w", err)
	}
	var result [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	size, oobSize, err := l.receive(result[:], oob)
	if err == nil && size < len(result) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("load seccomp program: %w", err)
	}
	if errno := binary.NativeEndian.Uint32(result[:]); errno != 0 {
		return nil, fmt.Errorf("load seccomp program: %w", unix.Errno(errno))
	}
	return received(oob[:oobSize])
}

func (l *Loader) receive(buf, oob []byte) (n, oobn int, err error) {
	rc, err := l.parent.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	rerr := rc.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	return n, oobn, errors.Join(rerr, err)
}

// received returns the file that came with a message, nil if there is none.
func received(oob []byte) (*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("load seccomp program: %d files, %w", len(fds), err)
	}
	return os.NewFile(uintptr(fds[0]), "seccomp-listener"), nil
}

// LastWords is what the container's first process said of why it could not execute the
// user's program (see Receive), "" if it did. The process has ended.
func (l *Loader) LastWords() string {
	var out []byte
	buf := make([]byte, 4096)
	rc, err := l.parent.SyscallConn()
	if err != nil {
		return ""
	}
	_ = rc.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return
			}
			out = append(out, buf[:n]...)
		}
	})
	return strings.TrimSpace(string(out))
}

// Close closes both ends.
func (l *Loader) Close() {
	l.parent.Close()
	l.Child.Close()
}
