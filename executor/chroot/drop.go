package chroot

import (
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepFiles keeps what this process executes from inheriting files from a number on.
func keepFiles(from int) {
	if unix.CloseRange(uint(from), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, _ := os.ReadDir("/proc/self/fd") // before Linux 5.11
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= from {
			unix.CloseOnExec(fd)
		}
	}
}

// dropCapabilities gives up all capabilities of this thread, and of what it starts:
// those that a step has are emulated. Without CAP_SETPCAP root gets those of the
// container back when it executes something.
func dropCapabilities() {
	for i := range uintptr(64) {
		if unix.Prctl(unix.PR_CAPBSET_DROP, i, 0, 0, 0) == unix.EINVAL {
			break
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_ = unix.Capset(&hdr, &none[0]) // to have less is always allowed
}
