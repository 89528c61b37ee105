package runc

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// loader gives a prepared container its seccomp program. At that moment the
// container's main thread has nothing left to do but to execute the user's
// program; it waits to open a fifo.
type loader struct{ parent, child *os.File }

func newLoader() (*loader, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make seccomp socket: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that deadlines work
		return nil, fmt.Errorf("make seccomp socket: %w", err)
	}
	return &loader{
		parent: os.NewFile(uintptr(fds[0]), "seccomp-parent"),
		child:  os.NewFile(uintptr(fds[1]), "seccomp-child"),
	}, nil
}

// load returns when the program is in force.
func (l *loader) load(prog []byte) error {
	_ = l.parent.SetDeadline(time.Now().Add(time.Minute))
	msg := binary.NativeEndian.AppendUint32(nil, uint32(len(prog)))
	if _, err := l.parent.Write(append(msg, prog...)); err != nil {
		return fmt.Errorf("send seccomp program: %w", err)
	}
	var result [4]byte
	if _, err := l.parent.Read(result[:]); err != nil {
		return fmt.Errorf("load seccomp program: %w", err)
	}
	if errno := binary.NativeEndian.Uint32(result[:]); errno != 0 {
		return fmt.Errorf("load seccomp program: %w", unix.Errno(errno))
	}
	return nil
}

func (l *loader) close() {
	l.parent.Close()
	l.child.Close()
}
