package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/cachemount"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	fileowner "layered.build/builder/snapshot/owner"
)

// cache finds the directory of a cache mount, makes it if it is new, and holds its
// lock until the process is gone: exclusively for "locked" and "private", shared
// for "shared". A private one that is in use is passed over for another copy.
func (m *mounter) cache(ctx context.Context, mount dag.Mount) (sandbox.Mount, error) {
	out := sandbox.Mount{ReadOnly: mount.ReadOnly}
	in := m.input(mount)
	full := mount.ID
	seed := mount.Input >= 0
	selector := strings.TrimPrefix(path.Clean("/"+mount.Selector), "/")
	if seed { // another seed, another cache
		full += "\x00" + string(in.Stack.Content()) + "\x00" + selector
	}
	if selector == "" && (mount.UID != nil || mount.GID != nil || mount.Mode != nil) { // as in BuildKit, another owner, too
		full += fmt.Sprintf("\x00%d:%d %o", number(mount.UID, 0), number(mount.GID, 0), number(mount.Mode, 0o755))
	}
	c := cachemount.Named(m.w.machine.Store.Root(), mount.ID, full)
	if err := os.MkdirAll(filepath.Dir(c.Dir), 0o711); err != nil {
		return out, err
	}
	dir, held := m.caches[c.Dir] // mounted twice: it must not wait for itself
	c.Platform = platforms.Format(m.job.Step.Platform)
	if !held {
		var err error
		if dir, err = m.lockCache(ctx, c, mount.Sharing); err != nil {
			return out, err
		}
		if m.caches == nil {
			m.caches = map[string]string{}
		}
		m.caches[c.Dir] = dir
	}
	if m.w.build.CacheMounts != nil && dir == c.Dir && !mount.ReadOnly {
		m.written = append(m.written, c)
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := m.newCache(ctx, mount, dir, seed, selector); err != nil {
			return out, err
		}
	} else if err != nil {
		return out, err
	}
	out.HostPath = dir
	if seed || selector == "" {
		return out, nil
	}
	out.Selector = selector
	return out, makeInCache(dir, selector)
}

// makeInCache makes a path inside a cache if it is missing. It must not lead out of
// the cache: processes may have put symlinks there, also while this is done.
func makeInCache(dir, selector string) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := sandbox.MakeBeneath(int(root.Fd()), selector, true, 0o755, nil)
	if err != nil {
		return fmt.Errorf("source %q of the cache: %w", selector, err)
	}
	return f.Close()
}

// lockCache returns the directory of a cache, or of the first copy of it that is not
// in use, once it is locked. One that is empty has then been restored, if it is known
// elsewhere.
func (m *mounter) lockCache(ctx context.Context, c cachemount.Mount, sharing string) (dir string, err error) {
	var lock *files.Lock
	shared := sharing == "" || sharing == "shared"
	base := c.Dir
	switch sharing {
	case "", "shared":
		if err := m.restoreShared(ctx, c); err != nil {
			return "", err
		}
		lock, err = files.LockFile(ctx, c.Lock(), files.Shared)
	case "locked":
		lock, err = files.LockFile(ctx, c.Lock(), files.Exclusive)
	case "private":
		lock, err = files.TryLockFile(c.Lock(), files.Exclusive)
		for n := 1; errors.Is(err, files.ErrLocked); n++ {
			c.Dir = fmt.Sprintf("%s.%d", base, n)
			lock, err = files.TryLockFile(c.Lock(), files.Exclusive)
		}
	default:
		err = fmt.Errorf("unknown sharing %q", sharing)
	}
	if err != nil {
		return "", err
	}
	now := time.Now()
	os.Chtimes(lock.Name(), now, now) // says when the cache was last used
	m.undo = append(m.undo, lock.Release)
	if err := c.Label(lock); err != nil || shared {
		return c.Dir, err
	}
	return c.Dir, m.restoreCache(ctx, c)
}

// newCache makes a cache directory, with the files of its "from" where it has one.
// Several processes may try at once: the first one's stays.
func (m *mounter) newCache(ctx context.Context, mount dag.Mount, dir string, seed bool, selector string) error {
	tmp, err := files.NewScratch(filepath.Dir(dir), cachemount.Making)
	if err != nil {
		return err
	}
	defer tmp.Remove()
	fresh := tmp.Path("files")
	if seed {
		tree, err := m.w.tree(ctx, m.input(mount))
		if err != nil {
			return err
		}
		real, err := snapshot.ResolvePath(tree, selector, true)
		if err != nil {
			return err
		}
		if _, err := tree.Lstat(real); err != nil {
			return missing(tree, selector, real, err)
		}
		if err := writeTree(ctx, tree, real, fresh); err != nil {
			return err
		}
	} else if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	if !seed || mount.UID != nil || mount.GID != nil {
		if err := fileowner.Lchown(fresh, uint32(number(mount.UID, 0)), uint32(number(mount.GID, 0))); err != nil {
			return err
		}
	}
	if !seed || mount.Mode != nil {
		if err := unix.Chmod(fresh, uint32(number(mount.Mode, 0o755))); err != nil {
			return err
		}
	}
	err = os.Rename(fresh, dir)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
