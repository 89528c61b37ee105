package emulate

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// addFD is struct seccomp_notif_addfd.
type addFD struct {
	id       uint64
	flags    uint32
	src      uint32
	newFD    uint32
	newFlags uint32
}

func ioctl(fd int, req uint, arg unsafe.Pointer) (int, unix.Errno) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(arg))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// receiver receives notifications. Nobody else may.
type receiver struct {
	fd int
	// ends says that the call that receives returns when the last process is gone
	// (Linux 6.11). Otherwise it would wait for ever, and has to be kept from that.
	ends bool
}

func newReceiver(fd int) receiver {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) == nil {
		fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	return receiver{fd: fd, ends: major > 6 || major == 6 && minor >= 11}
}

// next waits for a notification; false when there will be none any more.
func (r receiver) next(n *notification) (bool, error) {
	for {
		if !r.ends {
			if more, err := r.wait(); !more {
				return false, err
			}
		}
		*n = notification{}
		switch _, errno := ioctl(r.fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n)); errno {
		case 0:
			return true, nil
		case unix.ENOENT:
			// The process that asked is gone, or all are.
			if more, err := r.look(0); err != nil || !more {
				return false, err
			}
		default:
			return false, errno
		}
	}
}

// wait waits for a notification, which may be taken back before it is received.
func (r receiver) wait() (bool, error) { return r.look(-1) }

// look reports whether there is a process that may ask, after it has waited for one to
// ask or for the time to pass.
func (r receiver) look(timeout int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, timeout); err == nil {
			return fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) == 0 || fds[0].Revents&unix.POLLIN != 0, nil
		} else if err != unix.EINTR {
			return false, err
		}
	}
}

// valid reports whether the process still waits for the answer: until then its pid,
// and what was read of it, are its own.
func valid(fd int, id uint64) bool {
	_, errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
	return errno == 0
}

// send answers. That the process is gone is no error.
func send(fd int, r *response) error {
	_, errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
	if errno == 0 || errno == unix.ENOENT {
		return nil
	}
	return errno
}

// sendFile answers with a file, which the process gets as a new descriptor.
func sendFile(listener int, id uint64, file int, cloexec bool) unix.Errno {
	a := addFD{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, src: uint32(file)}
	if cloexec {
		a.newFlags = unix.O_CLOEXEC
	}
	_, errno := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
	return errno
}
