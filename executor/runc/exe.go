package runc

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/opencontainers/runc/libcontainer/exeseal"
	"golang.org/x/sys/unix"
)

// OwnFile executes the program anew, from a copy in memory, if its file is not the one
// that its path leads to, or is mounted there by itself, as into a container. A container's
// first process is executed through an overlay of the directory that the path names, which
// would show what lies under the mount. It returns if nothing is to be done, or does not
// return unless it fails. It belongs before anything that the process is to keep.
func OwnFile() error {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil //nolint:nilerr // without /proc nothing works, which others say better
	}
	var own, there unix.Stat_t
	if unix.Stat("/proc/self/exe", &own) != nil || unix.Lstat(path, &there) != nil {
		return nil // then libcontainer copies it itself: deleted, replaced, in memory
	}
	if own.Dev == there.Dev && own.Ino == there.Ino && !isMountpoint(path) {
		return nil
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil //nolint:nilerr // who may not read the file has the kernel's own reason then
	}
	defer f.Close()
	clone, err := exeseal.CloneBinary(f, own.Size, "builder", os.TempDir())
	if err != nil {
		return fmt.Errorf("copy the program, whose file is mounted by itself: %w", err)
	}
	defer clone.Close()
	err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", clone.Fd()), os.Args, os.Environ())
	return fmt.Errorf("execute the program's copy: %w", err)
}

// isMountpoint reports whether something is mounted at a path.
func isMountpoint(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	b, err := os.ReadFile("/proc/self/mountinfo") // before Linux 5.8
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			return true
		}
	}
	return false
}
