package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
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
		how := unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW
		if i == len(parts)-1 {
			how = flags
		}
		fd, err := unix.Openat(at, part, how, 0)
		if at != int(root.Fd()) {
			unix.Close(at)
		}
		if err != nil || part == ".." {
			return nil, &os.PathError{Op: "open", Path: p, Err: errors.Join(err)}
		}
		at = fd
	}
	return os.NewFile(uintptr(at), p), nil
}

func (t *Tree) openFile(p string) (*os.File, error) {
	// O_NONBLOCK: should a FIFO have taken the file's place, do not wait for it.
	return openBeneath(t.root, p, unix.O_RDONLY|unix.O_NONBLOCK)
}

// hashTries is how often a file is read that changes meanwhile.
const hashTries = 3

// hashFile reads a file and returns its digest, and what it looked like before and
// after that.
func (t *Tree) hashFile(p string) (d digest.Digest, stat fileStat, err error) {
	for range hashTries {
		d, stat, err = t.hashOnce(p)
		if !errors.Is(err, errChanged) {
			break
		}
	}
	if err != nil && !errors.Is(err, errChanged) {
		err = fmt.Errorf("read /%s: %w", p, err)
	}
	return d, stat, err
}

func (t *Tree) hashOnce(p string) (digest.Digest, fileStat, error) {
	f, err := t.openFile(p)
	if err != nil {
		return "", fileStat{}, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("/%s %w", p, errChanged)
	}
	if err != nil {
		return "", fileStat{}, errors.Join(err, f.Close())
	}
	r := &checkedFile{f: f, path: p, want: statOf(&st)}
	defer r.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{r}, make([]byte, min(64<<10, max(512, st.Size+1)))); err != nil {
		return "", fileStat{}, err
	}
	return digest.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))), r.want, nil
}

// errChanged says that a file is not what it was.
var errChanged = errors.New("changed while the context was read")

// onlyReader hides all other methods, so that io.CopyBuffer uses its buffer.
type onlyReader struct{ io.Reader }

// checkedFile is a file that must stay as it looked when it was first seen.
type checkedFile struct {
	f    *os.File
	path string
	want fileStat
}

// Read implements io.Reader; at the end of the file it checks it.
func (c *checkedFile) Read(b []byte) (int, error) {
	n, err := c.f.Read(b)
	if err == io.EOF {
		if changed := c.check(); changed != nil {
			return n, changed
		}
	}
	return n, err
}

// Close implements io.Closer.
func (c *checkedFile) Close() error { return c.f.Close() }

func (c *checkedFile) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(c.f.Fd()), &st); err != nil {
		return fmt.Errorf("read /%s: %w", c.path, err)
	}
	if statOf(&st).key() != c.want.key() {
		return fmt.Errorf("/%s %w", c.path, errChanged)
	}
	return nil
}
