package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// stubs makes the mountpoints that a root file system lacks and takes them away
// again, so that nothing of them stays in the layer that the run makes: not the
// files and directories themselves, not the parents made for them, not other
// modification times of directories, and not the copies of directories that the
// overlay made when something was created below them.
type stubs struct {
	root  string // the mounted root file system
	upper string // the directory that receives its changes, "" if none
	made  []string
	// copied are the directories, deepest last, that were not in upper before.
	copied []dirState
}

// dirState is what must be equal for a directory to count as unchanged.
type dirState struct {
	path   string // relative to the root
	st     unix.Stat_t
	xattrs map[string]string
}

func newStubs(root, upper string) *stubs { return &stubs{root: root, upper: upper} }

// add makes path, an empty file or directory, which does not exist, and its
// missing parents.
func (s *stubs) add(path string, dir bool) error {
	if err := s.mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return s.make(path, dir)
}

func (s *stubs) mkdirAll(path string) error {
	fi, err := os.Stat(path)
	if err == nil {
		if !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: s.rel(path), Err: unix.ENOTDIR}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return s.make(path, true)
}

// make makes one object whose parent exists, and leaves the parent's times alone.
func (s *stubs) make(path string, dir bool) error {
	parent := filepath.Dir(path)
	if err := s.remember(parent); err != nil {
		return err
	}
	err := keepTimes(parent, func() error {
		if dir {
			return os.Mkdir(path, 0o755)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return err
	}
	s.made = append(s.made, path)
	return nil
}

// remember notes the directories from the root down to dir that the overlay is
// about to copy into the upper directory.
func (s *stubs) remember(dir string) error {
	if s.upper == "" || dir == s.root {
		return nil
	}
	rel := s.rel(dir)
	if _, err := os.Lstat(filepath.Join(s.upper, rel)); err == nil {
		return nil
	}
	if err := s.remember(filepath.Dir(dir)); err != nil {
		return err
	}
	for _, c := range s.copied {
		if c.path == rel {
			return nil
		}
	}
	state, err := readDirState(dir, rel)
	if err == nil {
		s.copied = append(s.copied, state)
	}
	return err
}

func (s *stubs) rel(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, s.root), "/")
}

// remove takes away what is still an empty stub. root is a handle on the root
// file system without the mounts on it.
func (s *stubs) remove(root int) error {
	var errs []error
	for i := len(s.made) - 1; i >= 0; i-- {
		if err := removeStub(root, s.rel(s.made[i])); err != nil {
			errs = append(errs, fmt.Errorf("remove mountpoint /%s: %w", s.rel(s.made[i]), err))
		}
	}
	s.made = nil
	return errors.Join(errs...)
}

func removeStub(root int, rel string) error {
	// The process may have put a symlink in the place of a parent.
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	parent, err := unix.Openat2(root, filepath.Dir(rel), how)
	if err != nil {
		return nil // gone, or not what it was
	}
	defer unix.Close(parent)
	name := filepath.Base(rel)
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil
	}
	flags := 0
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		flags = unix.AT_REMOVEDIR
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0:
		return nil
	}
	dir := fmt.Sprintf("/proc/thread-self/fd/%d", parent)
	err = keepTimes(dir, func() error { return unix.Unlinkat(parent, name, flags) })
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// prune removes from the upper directory the directories that are there only
// because a mountpoint was made below them. The root must be unmounted.
func (s *stubs) prune() {
	for i := len(s.copied) - 1; i >= 0; i-- {
		was := s.copied[i]
		path := filepath.Join(s.upper, was.path)
		now, err := readDirState(path, was.path)
		if err != nil || !now.same(was) {
			continue
		}
		// Not empty: something was changed in it, and it stays.
		_ = keepTimes(filepath.Dir(path), func() error { return unix.Rmdir(path) })
	}
	s.copied = nil
}

func readDirState(path, rel string) (dirState, error) {
	d := dirState{path: rel}
	if err := unix.Lstat(path, &d.st); err != nil {
		return d, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	var err error
	d.xattrs, err = readXattrs(path)
	return d, err
}

func (d dirState) same(o dirState) bool {
	a, b := d.st, o.st
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Mtim == b.Mtim &&
		maps.Equal(d.xattrs, o.xattrs)
}

// readXattrs reads extended attributes, without the overlay's marks other than
// the one that a directory hides lower ones (a directory that has it was made
// anew).
func readXattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	out := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		overlay := strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
		if overlay && !strings.HasSuffix(name, ".opaque") {
			continue
		}
		val := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(path, name, val)
		if err != nil {
			return nil, &fs.PathError{Op: "lgetxattr", Path: path, Err: err}
		}
		out[name] = string(val[:m])
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// keepTimes runs f, which changes a directory's entries, and sets the
// directory's times back.
func keepTimes(dir string, f func() error) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := f(); err != nil {
		return err
	}
	ts := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, ts, 0); err != nil {
		return &fs.PathError{Op: "utimensat", Path: dir, Err: err}
	}
	return nil
}
