package emulate

import (
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

// next waits for a notification; false when there will be none any more.
func next(fd int, n *notification) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		// A process that ends takes its notification with it: then the call that
		// receives would wait. Nobody else receives here.
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return false, err
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			return false, nil // the last process is gone
		}
		*n = notification{}
		switch _, errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n)); errno {
		case 0:
			return true, nil
		case unix.ENOENT: // gone meanwhile
		default:
			return false, errno
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
