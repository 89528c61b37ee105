package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links of a path, as the kernel does.
const maxLinks = 40

// Write makes fn's bytes the content of the file that a user named. Links are followed.
// A regular file is replaced at once or not at all, and keeps its mode and owner; a new
// one gets perm. Whatever else the path names (a device, a fifo, a socket's or pipe's
// /dev/fd/N) is written into and stays what it is.
//
// A regular file whose folder cannot be written to, that is a mount point, or whose owner
// cannot be kept, is written to in place: then an error may leave a part.
func Write(path string, perm fs.FileMode, fn func(io.Writer) error) error {
	real, open, err := follow(path)
	if err != nil {
		return err
	}
	fi, err := os.Stat(real)
	switch {
	case open, err == nil && !fi.Mode().IsRegular():
		return writeInto(real, fn)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, terr := os.CreateTemp(filepath.Dir(real), ".part-*")
	if terr != nil {
		if err == nil && inPlace(terr) {
			return truncateInto(real, fn)
		}
		return terr
	}
	if err := errors.Join(fn(f), adopt(f, fi, perm)); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return put(f, fi, real)
}

// WriteBytes is Write for content that is there already.
func WriteBytes(path string, perm fs.FileMode, data []byte) error {
	return Write(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Clear makes sure that a path that a user named holds nothing of an earlier run: a
// regular file is removed, or emptied where that is not possible; links are followed, and
// whatever else the path names is left alone.
func Clear(path string) error {
	real, open, err := follow(path)
	if open || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fi, err := os.Stat(real)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
		return nil
	}
	if err != nil {
		return err
	}
	if err = os.Remove(real); err != nil && inPlace(err) {
		return os.Truncate(real, 0)
	}
	return err
}

// follow resolves the links at the end of a path, whose target need not exist. Open says
// that one of them is an open file of a process (/dev/stdout, /dev/fd/3), which only
// opening the path leads to.
func follow(path string) (real string, open bool, err error) {
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", false, err
		}
		path = filepath.Join(dir, filepath.Base(path))
		target, err := os.Readlink(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
			return path, false, nil
		}
		if err != nil {
			return "", false, err
		}
		if strings.HasPrefix(path, "/proc/") {
			return path, true, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return "", false, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// writeInto writes to something that is no file of its own. What it holds already stays:
// it may be the regular file that standard output was redirected to.
func writeInto(path string, fn func(io.Writer) error) error {
	f, err := openOwn(path)
	if f == nil && err == nil {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(f), f.Close())
}

// openOwn opens what this process has open already, and shares its position: who writes
// to standard output next writes behind. It is nil for any other path.
func openOwn(path string) (*os.File, error) {
	name, ok := strings.CutPrefix(path, fmt.Sprintf("/proc/%d/fd/", os.Getpid()))
	fd, err := strconv.Atoi(name)
	if !ok || err != nil {
		return nil, nil
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(own), path), nil
}

func truncateInto(path string, fn func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	return errors.Join(fn(f), f.Close())
}

// errOwner says that a file's owner cannot be given to another one.
var errOwner = errors.New("the owner cannot be kept")

// adopt gives a new file the mode and owner of the one whose place it takes.
func adopt(f *os.File, was fs.FileInfo, perm fs.FileMode) error {
	if was == nil {
		return f.Chmod(perm)
	}
	return f.Chmod(was.Mode().Perm())
}

// keepOwner gives a new file the owner of the one whose place it takes.
func keepOwner(f *os.File, was fs.FileInfo) error {
	st, ok := was.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	if f.Chown(int(st.Uid), int(st.Gid)) != nil {
		return errOwner
	}
	return f.Chmod(was.Mode().Perm()) // which chown may have taken bits of
}

// put moves a complete file to its place, or its content where that is not possible.
func put(f *os.File, was fs.FileInfo, path string) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if was != nil {
		err = keepOwner(f, was)
	}
	if err == nil {
		if err = os.Rename(f.Name(), path); err == nil {
			return nil
		}
	}
	if was == nil || !errors.Is(err, errOwner) && !inPlace(err) {
		return errors.Join(err, os.Remove(f.Name()))
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return truncateInto(path, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// inPlace reports whether an error of making or renaming a file beside another one does
// not mean that the other one cannot be written to.
func inPlace(err error) bool {
	for _, e := range []error{unix.EBUSY, unix.EXDEV, unix.EROFS, unix.EACCES, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
