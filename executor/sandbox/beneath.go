package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Beneath opens a path below the directory dir (O_PATH), which must not lead
// through symlinks: another process may put some there at any time. Mounts are
// crossed. The caller closes it.
func Beneath(dir int, path string) (*os.File, error) {
	return descend(dir, path, func(int, string, bool) error { return unix.ENOENT })
}

// MakeBeneath is Beneath for a path of which something may be missing: it is made,
// as directories with the given mode; its end as an empty file unless isDir. own, if
// not nil, is called for every directory that was made, with its parent and name, to
// give it an owner.
func MakeBeneath(dir int, path string, isDir bool, mode uint32, own func(parent int, name string) error) (*os.File, error) {
	return descend(dir, path, func(parent int, name string, last bool) error {
		if last && !isDir {
			fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}
		if err := unix.Mkdirat(parent, name, mode); err != nil || own == nil {
			return err
		}
		return own(parent, name)
	})
}

// descend opens one part of a path after another. missing may make a part.
func descend(dir int, path string, missing func(parent int, name string, last bool) error) (*os.File, error) {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrInvalid}
		default:
			parts = append(parts, part)
		}
	}
	fd, err := unix.Openat(dir, ".", unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	for i, part := range parts {
		next, err := openPart(fd, part)
		if errors.Is(err, unix.ENOENT) {
			err = missing(fd, part, i == len(parts)-1)
			if err == nil || errors.Is(err, unix.EEXIST) {
				next, err = openPart(fd, part)
			}
		}
		unix.Close(fd)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		fd = next
	}
	return os.NewFile(uintptr(fd), path), nil
}

// errLink says that a path leads through a symlink. It matches fs.ErrInvalid.
var errLink error = linkError{}

type linkError struct{}

// Error implements error.
func (linkError) Error() string { return "it leads through a symlink" }

// Is implements the interface of errors.Is.
func (linkError) Is(target error) bool { return target == fs.ErrInvalid }

func openPart(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = errLink
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
