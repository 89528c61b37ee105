package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/userns"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/snapshot"
)

// Root puts mounts into a root file system before the container exists.
//
// libcontainer would do it from inside, where it must expect the image's process
// to change paths under its hands, with some 200 system calls a mount. Here
// nothing else runs in the root yet, so that a path that was resolved stays so, but
// for mounts that other containers have, too (see makeShared).
type Root struct {
	opts  Options
	dir   string // where it is mounted
	stubs *stubs
	over  []string // mountpoints so far, resolved
	// open are the mountpoints in other mounts.
	open []*os.File
	// asked are the run's own mounts, and made whether they have been.
	asked []sandbox.Mount
	made  []bool
}

// Options say how a root file system is attached.
type Options struct {
	// Dir is a directory of this run alone. The root is mounted on "root" in it, and
	// what is mounted from a snapshot below "mnt"; both exist.
	Dir string
	// Mounts are those that the run asks for.
	Mounts []sandbox.Mount
	// Users is the container's own user namespace, nil if it has none.
	Users *userns.Namespace
	// Mapped mounts snapshots for it, nil likewise.
	Mapped *userns.Dirs
	// Borrowed: no device nodes can be made, those of this machine are shown.
	Borrowed bool
	// SingleID: the only user and group that exist are root's; owners are recorded.
	SingleID bool
}

// Attach mounts a snapshot as the root file system, in the calling thread's mount
// namespace. The caller calls Clean at the end of the run.
func Attach(m snapshot.Mount, o Options) (*Root, error) {
	dir := filepath.Join(o.Dir, "root")
	root, err := o.Mapped.Mount(m)
	if err == nil {
		err = root.Attach(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("attach root file system: %w", err)
	}
	asked := sandbox.Arrange(o.Mounts)
	return &Root{opts: o, dir: dir, stubs: newStubs(dir, root.Upper), asked: asked, made: make([]bool, len(asked))}, nil
}

// mountpoint resolves dest in the root and makes it if it is missing. What lies
// in another mount is made there and stays; what lies in the root itself becomes
// a stub. at is the open mountpoint in the first case, in which path is a name of
// it that only serves to mount.
func (r *Root) mountpoint(dest string, dir bool) (path string, at *os.File, err error) {
	path, err = securejoin.SecureJoin(r.dir, dest)
	if err != nil {
		return "", nil, fmt.Errorf("resolve mountpoint %s: %w", dest, err)
	}
	if r.covered(path) {
		f, err := r.makeShared(path, dir, nil)
		if err != nil {
			return "", nil, fmt.Errorf("make mountpoint %s: %w", dest, err)
		}
		r.open = append(r.open, f)
		r.over = append(r.over, path)
		return descriptorPath(f), f, nil
	}
	r.over = append(r.over, path)
	if _, err := os.Lstat(path); err == nil {
		return path, nil, nil
	}
	if err := r.stubs.add(path, dir); err != nil {
		return "", nil, fmt.Errorf("make mountpoint %s: %w", dest, err)
	}
	return path, nil, nil
}

// makeShared opens a path in another mount, and makes what of it is missing: it
// stays. The mount may be a cache, which other processes change at the same time.
func (r *Root) makeShared(path string, dir bool, own func(parent int, name string) error) (*os.File, error) {
	root, err := os.Open(r.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return sandbox.MakeBeneath(int(root.Fd()), strings.TrimPrefix(path, r.dir), dir, 0o755, own)
}

func (r *Root) covered(path string) bool {
	return slices.ContainsFunc(r.over, func(m string) bool { return strings.HasPrefix(path, m+"/") })
}

// fs mounts a new file system.
func (r *Root) fs(dest, fstype string, flags uintptr, data string) error {
	path, _, err := r.mountpoint(dest, true)
	if err != nil {
		return err
	}
	if err := unix.Mount(fstype, path, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, dest, err)
	}
	return nil
}

// lasting makes a directory that every root file system has, once a process ran
// in it: it is not a stub and stays in the layer, as with BuildKit and docker.
func (r *Root) lasting(dir string) error {
	if r.stubs.upper == "" {
		return nil
	}
	err := os.Mkdir(filepath.Join(r.dir, dir), 0o755)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make mountpoint /%s: %w", dir, err)
	}
	return nil
}

// Clean takes the mountpoints that were made for this run away, and all mounts before.
func (r *Root) Clean() error {
	for _, f := range r.open {
		f.Close()
	}
	if len(r.stubs.made) == 0 {
		return nil
	}
	// A mountpoint cannot be removed while something is mounted on it. One call
	// takes all mounts off this thread's tree; the root itself is kept by a clone.
	root, err := unix.OpenTree(unix.AT_FDCWD, r.dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "clone mount", Path: r.dir, Err: err}
	}
	err = unix.Unmount(r.dir, unix.MNT_DETACH)
	if err != nil {
		err = &os.PathError{Op: "unmount", Path: r.dir, Err: err}
	} else {
		err = r.stubs.remove(root)
	}
	unix.Close(root) // the last mount of the root
	r.stubs.prune()
	return err
}
