package rootfs

import (
	"errors"
	"fmt"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const defaultShmSize = 64 << 20

// Base mounts what every container has, but for what needs the container's own
// process namespace (see ContainerMounts).
func (r *Root) Base(spec *sandbox.Spec) error {
	insecure := spec.Security == dag.SecurityInsecure
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := r.lasting(dir); err != nil {
			return err
		}
	}
	if _, _, err := r.mountpoint("/proc", true); err != nil {
		return err
	}
	if err := r.fs("/dev", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k"); err != nil {
		return err
	}
	if err := r.populateDev(devicesOf(spec)); err != nil {
		return err
	}
	pts := "newinstance,ptmxmode=0666,mode=0620"
	if !r.opts.SingleID {
		pts += fmt.Sprintf(",gid=%d", r.opts.Users.Outer(5)) // tty
	}
	if err := r.fs("/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, pts); err != nil {
		return err
	}
	if err := r.fs("/dev/shm", "tmpfs", sealed, fmt.Sprintf("mode=1777,size=%d", shmSize(spec))); err != nil {
		return err
	}
	if err := r.fs("/dev/mqueue", "mqueue", sealed, ""); err != nil {
		return err
	}
	ro := uintptr(unix.MS_RDONLY)
	if insecure {
		ro = 0
	}
	err := r.fs("/sys", "sysfs", sealed|ro, "")
	if r.opts.Borrowed && errors.Is(err, unix.EPERM) {
		// The network belongs to another user namespace: this machine's /sys it is.
		return r.bind("/sys", "/sys", sealedRO)
	}
	return err
}

func shmSize(spec *sandbox.Spec) int64 {
	if spec.ShmSize > 0 {
		return spec.ShmSize
	}
	return defaultShmSize
}

// ContainerMounts are those that libcontainer makes. It sets up devices itself
// unless /dev is bound: here it is, to itself.
func ContainerMounts(root string, cgroup2 bool, cgroupRO string) []specs.Mount {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "bind", Source: filepath.Join(root, "dev"), Options: []string{"rbind"}},
	}
	if cgroup2 {
		mounts = append(mounts, specs.Mount{
			Destination: cgroupMount, Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", cgroupRO},
		})
	}
	return mounts
}
