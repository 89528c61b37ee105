package object

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
)

// SmallFile is the size in bytes up to which a file is read or written at once; larger
// ones are streamed.
const SmallFile = 128 << 10

// CreateFile makes an empty regular file, open for reading and writing, with mode 0600
// and where there is none.
func CreateFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return f, nil
}

// WriteFile makes a regular file with content and metadata with few system calls.
func (m *Maker) WriteFile(path string, e *manifest.Entry, data []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = writeAll(fd, data)
	if err == nil && (e.UID != m.uid || e.GID != m.gid) {
		err = m.fchown(fd, e)
	}
	if err == nil {
		err = m.fchmod(fd, path, e)
	}
	err = errors.Join(err, unix.Close(fd))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := m.setXattrs(path, e); err != nil {
		return err
	}
	return SetTime(path, e.ModTime)
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// ReadFile reads up to len(buf) bytes of a file with few system calls: buf has one
// byte more than the file is believed to have, so that nothing need be read to see that
// it has not grown.
func ReadFile(name string, buf []byte) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		k, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if k == 0 {
			break
		}
		if n += k; n == len(buf)-1 {
			break
		}
	}
	return n, nil
}

// ErrSize says that a file is shorter or longer than it was.
var ErrSize = errors.New("unexpected size")
