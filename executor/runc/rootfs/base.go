package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const defaultShmSize = 64 << 20

// Base mounts what every container has, but for what needs the container's own
// process namespace (see ContainerMounts).
func (r *Root) Base(spec *sandbox.Spec) error {
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := r.lasting(dir); err != nil {
			return err
		}
	}
	if _, _, err := r.mountpoint("/proc", true); err != nil {
		return err
	}
	if err := r.dev(spec); err != nil {
		return err
	}
	return r.usual("/sys", func() error { return r.sysfs(spec.Security == dag.SecurityInsecure) })
}

// dev mounts /dev and what is in it.
func (r *Root) dev(spec *sandbox.Spec) error {
	own, err := r.instead("/dev")
	if own == nil && err == nil {
		err = r.fs("/dev", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k")
	}
	if err == nil && (own == nil || own.Tmpfs != nil) { // a folder is shown as it is
		err = r.populateDev(devicesOf(spec))
	}
	if err != nil {
		return err
	}
	pts := "newinstance,ptmxmode=0666,mode=0620"
	if !r.opts.SingleID {
		pts += fmt.Sprintf(",gid=%d", r.opts.Users.Outer(5)) // tty
	}
	return errors.Join(
		r.usual("/dev/pts", func() error { return r.fs("/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, pts) }),
		r.usual("/dev/shm", func() error {
			return r.fs("/dev/shm", "tmpfs", sealed, fmt.Sprintf("mode=1777,size=%d", shmSize(spec)))
		}),
		r.usual("/dev/mqueue", func() error { return r.fs("/dev/mqueue", "mqueue", sealed, "") }),
	)
}

func (r *Root) sysfs(writable bool) error {
	ro := uintptr(unix.MS_RDONLY)
	if writable {
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

// devAside is where /dev waits for the container, in the directory of the run.
const devAside = "dev"

// SetAside takes /dev, with all that is mounted in it, out of the root: libcontainer binds
// it there again (see ContainerMounts), and it would be in the container twice. It is
// called when all mounts are made.
func (r *Root) SetAside() error {
	from, to := filepath.Join(r.dir, "dev"), filepath.Join(r.opts.Dir, devAside)
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("set /dev aside: %w", err)
	}
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("set /dev aside: %w", err)
	}
	return nil
}

// ContainerMounts are those that libcontainer makes of a run with a directory. It sets up
// devices itself unless /dev is bound: here it is, to what SetAside has kept. Cgroups are
// mounted if they are of version 2, unless the run asks for something else there.
func ContainerMounts(dir string, own []sandbox.Mount, cgroup2 bool, cgroupRO string) []specs.Mount {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "bind", Source: filepath.Join(dir, devAside), Options: []string{"rbind"}},
	}
	other := slices.ContainsFunc(own, func(m sandbox.Mount) bool { return filepath.Clean(m.Dest) == cgroupMount })
	if cgroup2 && !other {
		mounts = append(mounts, specs.Mount{
			Destination: cgroupMount, Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", cgroupRO},
		})
	}
	return mounts
}
