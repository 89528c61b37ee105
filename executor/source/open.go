package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/sparse"
)

const emptyDigest = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

var errNotDir = unix.ENOTDIR

// parallel is how many goroutines look at files.
func parallel() int { return max(2, runtime.NumCPU()) }

func openRoot(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.IsDir() {
		err = &os.PathError{Op: "open", Path: dir, Err: errNotDir}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openBeneath opens a path below root and follows no symlink at all, neither as
// the last component nor before.
func openBeneath(root *os.File, p string, flags int) (*os.File, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Openat2(int(root.Fd()), p, &unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == unix.ENOSYS || err == unix.EPERM { // an old kernel, or a filter
		return openStepwise(root, p, flags)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(fd), p), nil
}

// openStepwise is openBeneath without openat2(2).
func openStepwise(root *os.File, p string, flags int) (*os.File, error) {
	parts := strings.Split(p, "/")
	at := int(root.Fd())
	for i, part := range parts {
		if part == ".." {
			if at != int(root.Fd()) {
				unix.Close(at)
			}
			return nil, &os.PathError{Op: "open", Path: p, Err: unix.EXDEV}
		}
		how := unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
		if i == len(parts)-1 {
			how = flags
		}
		fd, err := unix.Openat(at, part, how, 0)
		if at != int(root.Fd()) {
			unix.Close(at)
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: p, Err: err}
		}
		at = fd
	}
	return os.NewFile(uintptr(at), p), nil
}

func (t *Tree) openFile(p string) (*os.File, error) {
	// O_NONBLOCK: should a FIFO have taken the file's place, do not wait for it.
	return openBeneath(t.root, p, unix.O_RDONLY|unix.O_NONBLOCK)
}

// hashed is what a file was when it was read once.
type hashed struct {
	digest digest.Digest
	// stat is what it looked like before, but for its size, which is what was read.
	stat fileStat
	// changed says that it did not stay so meanwhile; then kept, unless nil, has what
	// was read.
	changed bool
	kept    *kept
}

// hashFile reads a file to its end as it was when it was opened: what is appended
// meanwhile is left out. What changes meanwhile, or may change any time, is kept.
func (t *Tree) hashFile(p string) (hashed, error) {
	h, err := t.hashOnce(p, t.careful)
	if err == nil && h.changed && h.kept == nil {
		h, err = t.hashOnce(p, true)
		h.changed = true
	}
	if err != nil {
		return h, fmt.Errorf("read /%s: %w", p, err)
	}
	return h, nil
}

func (t *Tree) hashOnce(p string, keep bool) (h hashed, err error) {
	f, err := t.openFile(p)
	if err != nil {
		return h, gone(err)
	}
	defer f.Close()
	if h.stat, err = regular(f); err != nil {
		return h, err
	}
	sum := sparse.New()
	var to io.Writer = sum
	if keep {
		if h.kept, err = t.newKept(); err != nil {
			return h, err
		}
		to = io.MultiWriter(sum, h.kept)
	}
	size, n := h.stat.size, int64(0)
	if size >= sparse.Run && !keep {
		n, err = sum.ReadFile(f, size)
	} else {
		n, err = io.CopyBuffer(to, onlyReader{io.LimitReader(f, size)}, make([]byte, min(64<<10, max(512, size))))
	}
	if err != nil {
		return h, err
	}
	after, err := regular(f)
	h.changed = err != nil || n != size || after.key() != h.stat.key()
	h.stat.size, h.digest = n, sum.Digest()
	return h, nil
}

// regular describes an open file, which must be a regular one.
func regular(f *os.File) (fileStat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileStat{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileStat{}, snapshot.ErrChanged
	}
	return statOf(&st), nil
}

// gone makes a change of the error for a file that was there.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%w: %w", snapshot.ErrChanged, err)
	}
	return err
}

// onlyReader hides all other methods, so that io.CopyBuffer uses its buffer.
type onlyReader struct{ io.Reader }

// checkedFile is a file that must have the content that it was hashed with, whatever is
// appended meanwhile.
type checkedFile struct {
	f    *os.File
	path string
	want fileStat
	// digest is that of the content; "" if it was not hashed.
	digest digest.Digest
	read   int64
}

// Read implements io.Reader; at the end it checks the file.
func (c *checkedFile) Read(b []byte) (int, error) {
	left := c.want.size - c.read
	if left <= 0 {
		return 0, c.end()
	}
	n, err := c.f.Read(b[:min(int64(len(b)), left)])
	c.read += int64(n)
	if err == io.EOF {
		return n, c.end()
	}
	return n, err
}

// Close implements io.Closer.
func (c *checkedFile) Close() error { return c.f.Close() }

// end is io.EOF, unless the file changed.
func (c *checkedFile) end() error {
	now, err := regular(c.f)
	switch {
	case err == nil && now.key() == c.want.key() && c.read == c.want.size:
		return io.EOF
	case c.digest == "" || c.read != c.want.size:
	default:
		sum := sparse.New()
		if n, err := sum.ReadFile(c.f, c.want.size); err == nil && n == c.want.size && sum.Digest() == c.digest {
			return io.EOF
		}
	}
	return fmt.Errorf("/%s %w", c.path, snapshot.ErrChanged)
}
