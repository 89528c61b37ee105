package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/userns"
	"layered.build/builder/executor/sandbox"
)

// rootfs puts mounts into a root file system before the container exists.
//
// libcontainer would do it from inside, where it must expect the image's process
// to change paths under its hands, with some 200 system calls a mount. Here
// nothing else runs in the root yet, so that a path that was resolved stays so, but
// for mounts that other containers have, too (see makeShared).
type rootfs struct {
	dir   string // where it is mounted
	stubs *stubs
	over  []string // mountpoints so far, resolved
	// open are the mountpoints in other mounts.
	open []*os.File
	// userns: no device nodes can be made.
	userns bool
	// users is the container's own user namespace, nil if it has none.
	users *userns.Namespace
	// singleID: the only group that exists is root's.
	singleID bool
}

// mountpoint resolves dest in the root and makes it if it is missing. What lies
// in another mount is made there and stays; what lies in the root itself becomes
// a stub. at is the open mountpoint in the first case, in which path is a name of
// it that only serves to mount.
func (r *rootfs) mountpoint(dest string, dir bool) (path string, at *os.File, err error) {
	path, err = securejoin.SecureJoin(r.dir, dest)
	if err != nil {
		return "", nil, fmt.Errorf("resolve mountpoint %s: %w", dest, err)
	}
	if r.covered(path) {
		f, err := r.makeShared(path, dir, nil)
		if err != nil {
			return "", nil, fmt.Errorf("make mountpoint %s: %w", dest, err)
		}
		r.open = append(r.open, f)
		r.over = append(r.over, path)
		return descriptorPath(f), f, nil
	}
	r.over = append(r.over, path)
	if _, err := os.Lstat(path); err == nil {
		return path, nil, nil
	}
	if err := r.stubs.add(path, dir); err != nil {
		return "", nil, fmt.Errorf("make mountpoint %s: %w", dest, err)
	}
	return path, nil, nil
}

// makeShared opens a path in another mount, and makes what of it is missing: it
// stays. The mount may be a cache, which other processes change at the same time.
func (r *rootfs) makeShared(path string, dir bool, own func(parent int, name string) error) (*os.File, error) {
	root, err := os.Open(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return sandbox.MakeBeneath(int(root.Fd()), strings.TrimPrefix(path, r.dir), dir, 0o755, own)
}

func (r *rootfs) covered(path string) bool {
	return slices.ContainsFunc(r.over, func(m string) bool { return strings.HasPrefix(path, m+"/") })
}

// fs mounts a new file system.
func (r *rootfs) fs(dest, fstype string, flags uintptr, data string) error {
	path, _, err := r.mountpoint(dest, true)
	if err != nil {
		return err
	}
	if err := unix.Mount(fstype, path, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, dest, err)
	}
	return nil
}

// bind mounts a file or directory with what is mounted below it.
func (r *rootfs) bind(src, dest string, attrs uint64) error {
	fi, err := os.Stat(src)
	if err != nil {
		return fmt.Errorf("mount %s: %w", dest, err)
	}
	path, at, err := r.mountpoint(dest, fi.IsDir())
	if err != nil {
		return err
	}
	if at != nil {
		err = bindOn(src, at, attrs)
	} else {
		err = bindAt(src, path, attrs)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", dest, err)
	}
	return nil
}

// bindMapped is bind of what has ids of this machine, which the container sees as
// its own.
func (r *rootfs) bindMapped(src, dest string, attrs uint64) error {
	fi, err := os.Stat(src)
	if err != nil {
		return fmt.Errorf("mount %s: %w", dest, err)
	}
	fd, err := r.users.CloneMapped(src, true)
	if err != nil {
		return fmt.Errorf("mount %s: %w", dest, err)
	}
	defer unix.Close(fd)
	if attrs != 0 {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attrs}); err != nil {
			return fmt.Errorf("mount %s: set mount attributes: %w", dest, err)
		}
	}
	path, at, err := r.mountpoint(dest, fi.IsDir())
	if err != nil {
		return err
	}
	to, flags := unix.AT_FDCWD, unix.MOVE_MOUNT_F_EMPTY_PATH
	if at != nil {
		to, path, flags = int(at.Fd()), "", flags|unix.MOVE_MOUNT_T_EMPTY_PATH
	}
	if err := unix.MoveMount(fd, "", to, path, flags); err != nil {
		return fmt.Errorf("mount %s: %w", dest, err)
	}
	return nil
}

func bindAt(src, path string, attrs uint64) error {
	if err := unix.Mount(src, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "bind mount", Path: src, Err: err}
	}
	if attrs == 0 {
		return nil
	}
	return setAttrs(path, attrs)
}

// bindOn is bindAt for an open mountpoint. What is mounted there gets its attributes
// before, since the mountpoint does not lead to it.
func bindOn(src string, at *os.File, attrs uint64) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, src, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "clone mount", Path: src, Err: err}
	}
	defer unix.Close(tree)
	if attrs != 0 {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attrs})
	}
	if err == nil {
		err = unix.MoveMount(tree, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
	if err != nil {
		return &os.PathError{Op: "bind mount", Path: src, Err: err}
	}
	return nil
}

// setAttrs adds attributes (MOUNT_ATTR_*) to a mount and those below it.
func setAttrs(path string, attrs uint64) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attrs})
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12: this mount only
		flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT)
		for attr, flag := range map[uint64]uintptr{
			unix.MOUNT_ATTR_RDONLY: unix.MS_RDONLY, unix.MOUNT_ATTR_NOSUID: unix.MS_NOSUID,
			unix.MOUNT_ATTR_NODEV: unix.MS_NODEV, unix.MOUNT_ATTR_NOEXEC: unix.MS_NOEXEC,
		} {
			if attrs&attr != 0 {
				flags |= flag
			}
		}
		err = unix.Mount("", path, "", flags, "")
	}
	if err != nil {
		return &os.PathError{Op: "set mount attributes", Path: path, Err: err}
	}
	return nil
}

const (
	sealed   = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	sealedRO = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
)

// base mounts what every container has, but for what needs the container's own
// process namespace (see containerMounts).
func (r *rootfs) base(shm int64, devices []specs.LinuxDevice, writableSys bool) error {
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
	if err := r.populateDev(devices); err != nil {
		return err
	}
	pts := "newinstance,ptmxmode=0666,mode=0620"
	if !r.singleID {
		pts += fmt.Sprintf(",gid=%d", r.users.Outer(5)) // tty
	}
	if err := r.fs("/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, pts); err != nil {
		return err
	}
	if err := r.fs("/dev/shm", "tmpfs", sealed, fmt.Sprintf("mode=1777,size=%d", shm)); err != nil {
		return err
	}
	if err := r.fs("/dev/mqueue", "mqueue", sealed, ""); err != nil {
		return err
	}
	ro := uintptr(unix.MS_RDONLY)
	if writableSys {
		ro = 0
	}
	err := r.fs("/sys", "sysfs", sealed|ro, "")
	if r.userns && errors.Is(err, unix.EPERM) {
		// The network belongs to another user namespace: this machine's /sys it is.
		return r.bind("/sys", "/sys", sealedRO)
	}
	return err
}

// lasting makes a directory that every root file system has, once a process ran
// in it: it is not a stub and stays in the layer, as with BuildKit and docker.
func (r *rootfs) lasting(dir string) error {
	if r.stubs.upper == "" {
		return nil
	}
	err := os.Mkdir(filepath.Join(r.dir, dir), 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make mountpoint /%s: %w", dir, err)
	}
	return nil
}

// populateDev makes the device nodes and links of a minimal /dev.
func (r *rootfs) populateDev(devices []specs.LinuxDevice) error {
	dev := r.over[len(r.over)-1]
	for _, d := range append(defaultDevices(), devices...) {
		path := filepath.Join(dev, strings.TrimPrefix(d.Path, "/dev/"))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil && r.userns {
			err = bindDevice(path, d)
		} else if err == nil {
			err = r.makeDevice(path, d)
		}
		if err != nil {
			return fmt.Errorf("make device %s: %w", d.Path, err)
		}
	}
	links := [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
	}
	if _, err := os.Lstat("/proc/kcore"); err == nil {
		links = append(links, [2]string{"/proc/kcore", "core"})
	}
	for _, l := range links {
		if err := os.Symlink(l[0], filepath.Join(dev, l[1])); err != nil {
			return fmt.Errorf("make /dev/%s: %w", l[1], err)
		}
	}
	return nil
}

func (r *rootfs) makeDevice(path string, d specs.LinuxDevice) error {
	mode := uint32(unix.S_IFCHR)
	if d.Type == "b" {
		mode = unix.S_IFBLK
	}
	if err := unix.Mknod(path, mode|0o666, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))); err != nil {
		return err
	}
	if d.FileMode == nil {
		return nil
	}
	return errors.Join(os.Chown(path, r.users.Outer(*d.UID), r.users.Outer(*d.GID)), unix.Chmod(path, uint32(*d.FileMode)))
}

// bindDevice shows this machine's node, where none can be made: its owner and mode
// stay what they are. Of what insecure processes may use, what is missing is left
// out.
func bindDevice(path string, d specs.LinuxDevice) error {
	src, err := hostDevice(d)
	if err != nil {
		if d.FileMode == nil && !isDefaultDevice(d) {
			return nil
		}
		return err
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	return bindAt(src, path, 0)
}

// hostDevice finds this machine's node for a device: usually it has the same path.
func hostDevice(d specs.LinuxDevice) (string, error) {
	candidates := []string{d.Path}
	kind := "char"
	if d.Type == "b" {
		kind = "block"
	}
	if name, err := os.Readlink(fmt.Sprintf("/sys/dev/%s/%d:%d", kind, d.Major, d.Minor)); err == nil {
		candidates = append(candidates, "/dev/"+filepath.Base(name))
	}
	for _, path := range candidates {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&(unix.S_IFCHR|unix.S_IFBLK) != 0 && st.Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
			return path, nil
		}
	}
	return "", fmt.Errorf("this machine has no node %s (%d:%d), and none can be made in a user namespace", d.Path, d.Major, d.Minor)
}

func isDefaultDevice(d specs.LinuxDevice) bool {
	return slices.ContainsFunc(defaultDevices(), func(o specs.LinuxDevice) bool { return o.Path == d.Path })
}

func defaultDevices() []specs.LinuxDevice {
	return []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
		{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
		{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
		{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
		{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
		{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
	}
}

// containerMounts are those that libcontainer makes. It sets up devices itself
// unless /dev is bound: here it is, to itself.
func containerMounts(root string, cgroup2 bool, cgroupRO string) []specs.Mount {
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

// cgroupMount is where cgroups are mounted, here and in containers.
const cgroupMount = "/sys/fs/cgroup"

// hideCgroups makes all cgroups read-only for the calling private thread, so that
// libcontainer does not make its own (v1).
func hideCgroups() error { return setAttrs(cgroupMount, unix.MOUNT_ATTR_RDONLY) }

// cgroups shows a container's v1 cgroups, by the names of their hierarchies.
func (r *rootfs) cgroups(dirs map[string]string, writable bool) error {
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

// clean takes the stubs away.
func (r *rootfs) clean() error {
	for _, f := range r.open {
		f.Close()
	}
	if len(r.stubs.made) == 0 {
		return nil
	}
	// A mountpoint cannot be removed while something is mounted on it. One call
	// takes all mounts off this thread's tree; the root itself is kept by a clone.
	root, err := unix.OpenTree(unix.AT_FDCWD, r.dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "clone mount", Path: r.dir, Err: err}
	}
	err = unix.Unmount(r.dir, unix.MNT_DETACH)
	if err != nil {
		err = &os.PathError{Op: "unmount", Path: r.dir, Err: err}
	} else {
		err = r.stubs.remove(root)
	}
	unix.Close(root) // the last mount of the root
	r.stubs.prune()
	return err
}
