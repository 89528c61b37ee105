package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	fileowner "layered.build/builder/snapshot/owner"
)

// scratch is a directory of this process. Those that dead processes left are
// removed by the next one that makes one beside them.
type scratch struct {
	dir  string
	lock *os.File
}

// newScratch makes a directory whose name begins with prefix.
func newScratch(parent, prefix string) (*scratch, error) {
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return nil, err
	}
	sweep(parent, prefix)
	for {
		dir, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return nil, err
		}
		s, err := holdScratch(dir)
		if s != nil || err != nil {
			return s, err
		}
	}
}

// holdScratch locks a new directory. It returns nil if another process swept it
// away before.
func holdScratch(dir string) (*scratch, error) {
	lock, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		if _, err = os.Lstat(dir); err == nil {
			return &scratch{dir: dir, lock: lock}, nil
		}
	}
	lock.Close()
	if err == unix.EWOULDBLOCK || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

func (s *scratch) remove() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Close()) }

// Reclaim removes what killed processes left outside of the store's own reach:
// secrets in memory, ssh sockets and files that were laid out for mounts. A build
// calls it when it starts, so that a secret does not outlive its process longer
// than until then.
func Reclaim(store *snapshot.Store) {
	for _, dir := range memoryDirs() {
		sweep(dir, secretPrefix())
	}
	sweep(filepath.Join(store.Root(), "run"), "")
	sweep(filepath.Join(store.Root(), "mounts"), "new-")
}

// sweep removes the directories that nobody holds. One that is just being made is
// made again by who wanted it (see holdScratch).
func sweep(parent, prefix string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		p := filepath.Join(parent, e.Name())
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(p)
		}
		f.Close()
	}
}

// writeTree writes a path of a tree, and all below it, to a new path of this
// machine.
func writeTree(ctx context.Context, t snapshot.Tree, p, dest string) error {
	e, err := t.Lstat(p)
	if err != nil {
		return err
	}
	if err := writeEntry(ctx, t, e, dest); err != nil {
		return fmt.Errorf("copy /%s: %w", p, err)
	}
	return nil
}

func writeEntry(ctx context.Context, t snapshot.Tree, e *snapshot.Entry, dest string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch e.Type {
	case snapshot.TypeDir:
		if err := os.Mkdir(dest, 0o700); err != nil {
			return err
		}
		children, err := t.ReadDir(e.Path)
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := writeEntry(ctx, t, c, filepath.Join(dest, path.Base(c.Path))); err != nil {
				return err
			}
		}
	case snapshot.TypeFile:
		if err := writeContent(t, e.Path, dest); err != nil {
			return err
		}
	case snapshot.TypeSymlink:
		if err := os.Symlink(e.Linkname, dest); err != nil {
			return err
		}
	case snapshot.TypeFifo:
		if err := unix.Mkfifo(dest, 0o600); err != nil {
			return err
		}
	default:
		return fmt.Errorf("/%s is a device", e.Path)
	}
	return writeMeta(e, dest)
}

func writeContent(t snapshot.Tree, p, dest string) error {
	r, err := t.Open(p)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// writeMeta sets owner, then mode, then attributes, then time: each would be lost
// by setting those before it afterwards.
func writeMeta(e *snapshot.Entry, dest string) error {
	if err := fileowner.Lchown(dest, e.UID, e.GID); err != nil {
		return err
	}
	if e.Type != snapshot.TypeSymlink {
		if err := unix.Chmod(dest, e.Mode); err != nil {
			return err
		}
	}
	for k, v := range e.Xattrs {
		if err := unix.Lsetxattr(dest, k, []byte(v), 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set %s: %w", k, err)
		}
	}
	ts := unix.NsecToTimespec(e.ModTime.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, dest, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
