package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupMount is where cgroups are mounted, here and in containers.
const cgroupMount = "/sys/fs/cgroup"

// HideCgroups makes all cgroups read-only for the calling private thread, so that
// libcontainer does not make its own (v1).
func HideCgroups() error { return setAttrs(cgroupMount, unix.MOUNT_ATTR_RDONLY) }

// Cgroups shows a container's v1 cgroups, by the names of their hierarchies.
func (r *Root) Cgroups(dirs map[string]string, writable bool) error {
	if m, err := r.instead(cgroupMount); m != nil || err != nil {
		return err
	}
	if err := r.fs(cgroupMount, "tmpfs", sealed, "mode=755"); err != nil {
		return err
	}
	base := r.over[len(r.over)-1]
	for name, dir := range dirs {
		// Joint hierarchies have a link for each controller.
		mount, _, _ := strings.Cut(strings.TrimPrefix(dir, cgroupMount+"/"), "/")
		target := filepath.Join(base, mount)
		if err := os.Mkdir(target, 0o755); err == nil {
			err = bindAt(dir, target, 0)
			if err != nil {
				return fmt.Errorf("mount cgroups: %w", err)
			}
		}
		if mount != name {
			_ = os.Symlink(mount, filepath.Join(base, name))
		}
	}
	attrs := uint64(sealedRO)
	if writable {
		attrs &^= unix.MOUNT_ATTR_RDONLY
	}
	return setAttrs(base, attrs)
}
