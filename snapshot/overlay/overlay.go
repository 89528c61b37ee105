// Package overlay mounts overlay file systems and binds with the new mount API,
// in the calling thread's mount namespace.
package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Spec is one overlay mount.
type Spec struct {
	// Lower are the lower directories, topmost first.
	Lower []string
	// Upper and Work are "" for a read-only mount.
	Upper, Work string
}

// maxValue is the longest value that fsconfig(2) takes for a string.
const maxValue = 255

// Mount mounts an overlay at target. Kernels that cannot take one lower directory
// at a time (before 6.5) get all in one option, which limits their number.
func Mount(s Spec, target string) error {
	if s.Work != "" {
		// The mark that a volatile mount leaves forbids the next one. What was
		// unmounted in order is sound; what was not is removed by its owner.
		os.RemoveAll(filepath.Join(s.Work, "work/incompat"))
	}
	fd, err := s.open()
	if errors.Is(err, errOldKernel) {
		return s.mountOld(target)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return move(fd, target)
}

var errOldKernel = errors.New("overlay has no lowerdir+")

// open returns a detached mount.
func (s Spec) open() (int, error) {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return -1, errOldKernel
	}
	if err != nil {
		return -1, fmt.Errorf("open overlay file system: %w", err)
	}
	defer unix.Close(fsfd)
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	dir := func(key, path string) error {
		if len(path) > maxValue {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("overlay %s %s: %w", key, path, err)
			}
			fds = append(fds, fd)
			path = fmt.Sprintf("/proc/self/fd/%d", fd)
		}
		if err := unix.FsconfigSetString(fsfd, key, path); err != nil {
			return fmt.Errorf("overlay %s=%s: %w%s", key, path, err, messages(fsfd))
		}
		return nil
	}
	for _, l := range s.Lower {
		if err := dir("lowerdir+", l); err != nil {
			if errors.Is(err, unix.EINVAL) && !supportsAppend() {
				return -1, errOldKernel
			}
			return -1, err
		}
	}
	if s.Upper != "" {
		if err := errors.Join(dir("upperdir", s.Upper), dir("workdir", s.Work)); err != nil {
			return -1, err
		}
	}
	for _, o := range s.options() {
		k, v, hasValue := strings.Cut(o, "=")
		if hasValue {
			err = unix.FsconfigSetString(fsfd, k, v)
		} else {
			err = unix.FsconfigSetFlag(fsfd, k)
		}
		if err != nil {
			return -1, fmt.Errorf("overlay option %s: %w%s", o, err, messages(fsfd))
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, fmt.Errorf("mount overlay of %d layers: %w%s", len(s.Lower), err, messages(fsfd))
	}
	attr := 0
	if s.Upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	return mfd, nil
}

// options are those beside the directories. A writable mount is volatile: its
// upper directory is trusted only by the process that mounts it, so that what a
// container syncs need not reach the disk.
func (s Spec) options() []string {
	opts := []string{"index=off"}
	if UserXattr() {
		// The kernel then allows neither redirects nor metacopies, nor to say so.
		opts = append(opts, "userxattr")
	} else {
		opts = append(opts, "redirect_dir=off", "metacopy=off")
	}
	if s.Upper != "" && kernelAtLeast(5, 10) {
		opts = append(opts, "volatile")
	}
	return opts
}

// UserXattr reports whether overlay's marks are user.* attributes here: for
// everybody but root in the machine's first user namespace.
func UserXattr() bool {
	if os.Geteuid() != 0 {
		return true
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295"
}

// messages returns what the kernel logged about a failed fsconfig(2).
func messages(fsfd int) string {
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fsfd, buf)
		if n <= 0 || err != nil {
			return b.String()
		}
		b.WriteString(" (" + strings.TrimSpace(string(buf[:n])) + ")")
	}
}

func move(fd int, target string) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	return nil
}

// Bind mounts a directory at target, without the mounts below it.
func Bind(dir, target string, readOnly bool) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("bind %s: %w", dir, err)
	}
	defer unix.Close(fd)
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("bind %s: %w", dir, err)
	}
	return move(fd, target)
}

// Empty mounts an empty read-only directory at target.
func Empty(target string) error {
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_RDONLY, "mode=0755,size=4k"); err != nil {
		return fmt.Errorf("mount empty directory at %s: %w", target, err)
	}
	return nil
}
