package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's, with room for all architectures: the handler comes first.
type sigaction struct {
	handler uintptr
	rest    [7]uint64
}

const (
	sigDefault = 0 // SIG_DFL
	sigIgnored = 1 // SIG_IGN
	lastSignal = 64
	maskSize   = lastSignal / 8
)

// HeedSignals is called in a process that becomes the user's by execve(2): signals that
// whoever started the builder has ignored, as nohup(1) and shells do for what runs in the
// background, are not ignored there. It asks the kernel itself (sigaction(2)), since
// os/signal needs a thread, for which there may be no room.
func HeedSignals() {
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		var was, normal sigaction
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&was)), maskSize, 0, 0); errno != 0 || was.handler != sigIgnored {
			continue
		}
		normal.handler = sigDefault
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&normal)), 0, maskSize, 0, 0)
	}
}
