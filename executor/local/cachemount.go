package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	id := mount.ID
	seed := mount.Input >= 0
	selector := strings.TrimPrefix(path.Clean("/"+mount.Selector), "/")
	if seed { // another seed, another cache
		id += "\x00" + string(in.Stack.Content()) + "\x00" + selector
	}
	if selector == "" && (mount.UID != nil || mount.GID != nil || mount.Mode != nil) { // as in BuildKit, another owner, too
		id += fmt.Sprintf("\x00%d:%d %o", number(mount.UID, 0), number(mount.GID, 0), number(mount.Mode, 0o755))
	}
	sum := sha256.Sum256([]byte(id))
	base := filepath.Join(m.w.folder(mountsFolder), hex.EncodeToString(sum[:16]))
	if err := os.MkdirAll(filepath.Dir(base), 0o711); err != nil {
		return out, err
	}
	dir, held := m.caches[base] // mounted twice: it must not wait for itself
	if !held {
		var err error
		if dir, err = m.lockCache(ctx, base, mount.Sharing); err != nil {
			return out, err
		}
		if m.caches == nil {
			m.caches = map[string]string{}
		}
		m.caches[base] = dir
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
// in use, once it is locked.
func (m *mounter) lockCache(ctx context.Context, base, sharing string) (dir string, err error) {
	var lock *files.Lock
	dir = base
	switch sharing {
	case "", "shared":
		lock, err = files.LockFile(ctx, dir+cacheLock, files.Shared)
	case "locked":
		lock, err = files.LockFile(ctx, dir+cacheLock, files.Exclusive)
	case "private":
		lock, err = files.TryLockFile(dir+cacheLock, files.Exclusive)
		for n := 1; errors.Is(err, files.ErrLocked); n++ {
			dir = fmt.Sprintf("%s.%d", base, n)
			lock, err = files.TryLockFile(dir+cacheLock, files.Exclusive)
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
	return dir, nil
}

// newCache makes a cache directory, with the files of its "from" where it has one.
// Several processes may try at once: the first one's stays.
func (m *mounter) newCache(ctx context.Context, mount dag.Mount, dir string, seed bool, selector string) error {
	tmp, err := files.NewScratch(filepath.Dir(dir), newCaches)
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
