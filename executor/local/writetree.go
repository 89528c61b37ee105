package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	fileowner "layered.build/builder/snapshot/owner"
)

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
	if e.ModTime.IsZero() { // a context's own directory
		return nil
	}
	ts := unix.NsecToTimespec(e.ModTime.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, dest, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
