package sparse

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Data calls fn for every part of the size bytes of a file at an offset that is no hole,
// in order: for all of them where the file system does not tell. What lies after the end
// of the file is a hole. It moves the file's position, and returns fn's first error.
func Data(f *os.File, off, size int64, fn func(off, n int64) error) error {
	for end := off + size; off < end; {
		from, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // none follows
			return nil
		case err != nil:
			return fn(off, end-off)
		case from >= end:
			return nil
		}
		to, err := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			to = end
		}
		to = min(to, end)
		if err := fn(from, to-from); err != nil {
			return err
		}
		off = to
	}
	return nil
}

// Copy copies the size bytes at an offset of a file to the beginning of an empty one, which
// has its holes then; inside the kernel where that can do it. A file that ends before is
// io.ErrUnexpectedEOF.
func Copy(dst, src *os.File, off, size int64) error {
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	if fi.Size() < off+size {
		return io.ErrUnexpectedEOF
	}
	err = Data(src, off, size, func(from, n int64) error { return copyPart(dst, from-off, src, from, n) })
	if err != nil {
		return err
	}
	return dst.Truncate(size)
}

// copyPart copies n bytes.
func copyPart(dst *os.File, to int64, src *os.File, from, n int64) error {
	for n > 0 {
		done, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(min(n, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // file systems that cannot
			m, err := io.Copy(io.NewOffsetWriter(dst, to), io.NewSectionReader(src, from, n))
			if err == nil && m != n {
				err = io.ErrUnexpectedEOF
			}
			return err
		case done == 0:
			return io.ErrUnexpectedEOF
		}
		n -= int64(done)
	}
	return nil
}
