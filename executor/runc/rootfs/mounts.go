package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
)

// Own makes the mounts that the run asks for and that have not taken the place of one
// that every container has.
func (r *Root) Own() error {
	for i := range r.asked {
		if err := r.mount(i); err != nil {
			return err
		}
	}
	return nil
}

// instead makes the mount that the run asks for at the place of one that every container
// has, nil if it asks for none there.
func (r *Root) instead(dest string) (*sandbox.Mount, error) {
	for i := range r.asked {
		if m := &r.asked[i]; m.Dest == dest {
			return m, r.mount(i)
		}
	}
	return nil, nil
}

// usual makes a mount that every container has, unless the run asks for another in its
// place.
func (r *Root) usual(dest string, mount func() error) error {
	if m, err := r.instead(dest); m != nil || err != nil {
		return err
	}
	return mount()
}

// mount makes the i-th mount that the run asks for, once.
func (r *Root) mount(i int) error {
	if r.made[i] {
		return nil
	}
	r.made[i] = true
	m := r.asked[i]
	dest := m.Dest
	if dest == "/proc" || strings.HasPrefix(dest, "/proc/") {
		return fmt.Errorf("mount %s: nothing can be mounted in /proc", dest)
	}
	var attrs uint64
	if m.ReadOnly {
		attrs = unix.MOUNT_ATTR_RDONLY
	}
	if m.Tmpfs != nil {
		return r.tmpfs(dest, m.Tmpfs, attrs)
	}
	src := m.HostPath
	switch {
	case src == "":
		var err error
		if src, err = r.snapshot(i, m); err != nil {
			return fmt.Errorf("mount %s: %w", dest, err)
		}
		return r.bind(src, dest, attrs)
	case m.Selector != "":
		f, err := openBeneath(src, m.Selector)
		if err != nil {
			return fmt.Errorf("mount %s: %w", dest, err)
		}
		defer f.Close()
		src = descriptorPath(f)
	}
	if r.opts.Users != nil {
		return r.bindMapped(src, dest, attrs)
	}
	return r.bind(src, dest, attrs)
}

// openBeneath opens a path below a directory in this thread's mount namespace.
func openBeneath(dir, path string) (*os.File, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return sandbox.Beneath(int(root.Fd()), path)
}

// descriptorPath is a path that leads to an open file, wherever it is now.
func descriptorPath(f *os.File) string { return "/proc/thread-self/fd/" + strconv.Itoa(int(f.Fd())) }

// snapshot attaches a snapshot aside and returns the path in it that is wanted.
func (r *Root) snapshot(i int, m sandbox.Mount) (string, error) {
	dir := filepath.Join(r.opts.Dir, "mnt", strconv.Itoa(i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	from, err := r.opts.Mapped.Mount(m.Snapshot)
	if err == nil {
		err = from.Attach(dir)
	}
	if err != nil {
		return "", fmt.Errorf("attach: %w", err)
	}
	src, err := securejoin.SecureJoin(dir, m.Selector)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(src); err != nil {
		return "", &os.PathError{Op: "find", Path: "/" + strings.TrimPrefix(m.Selector, "/"), Err: unix.ENOENT}
	}
	return src, nil
}

func (r *Root) tmpfs(dest string, t *sandbox.Tmpfs, attrs uint64) error {
	mode := t.Mode
	if mode == 0 {
		mode = 0o1777
	}
	data := "mode=" + strconv.FormatUint(uint64(mode), 8)
	if t.Size > 0 {
		data += ",size=" + strconv.FormatInt(t.Size, 10)
	}
	var flags uintptr = unix.MS_NOSUID
	if attrs&unix.MOUNT_ATTR_RDONLY != 0 {
		flags |= unix.MS_RDONLY
	}
	return r.fs(dest, "tmpfs", flags, data)
}
