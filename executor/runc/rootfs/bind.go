package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// bind mounts a file or directory with what is mounted below it.
func (r *Root) bind(src, dest string, attrs uint64) error {
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
func (r *Root) bindMapped(src, dest string, attrs uint64) error {
	fi, err := os.Stat(src)
	if err != nil {
		return fmt.Errorf("mount %s: %w", dest, err)
	}
	fd, err := r.opts.Users.CloneMapped(src, true)
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
