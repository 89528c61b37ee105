package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is a lock on the file or folder that has a name, held until it is released
// or until the process ends. It is not safe for concurrent use.
type Lock struct{ f *os.File }

// LockFile waits for the lock on the file at path, or until ctx ends; the error is
// the cause of ctx then. A file that does not exist is made, with mode 0600. Whoever
// gets the lock holds the file that has the name at that time: another holder may
// have removed it (Lock.Remove), which excludes nobody any more.
func LockFile(ctx context.Context, path string, how Mode) (*Lock, error) {
	return lockNamed(path, os.O_RDWR|os.O_CREATE, func(f *os.File) error { return Flock(ctx, f, how) })
}

// TryLockFile is LockFile that does not wait: the error matches ErrLocked if another
// holds the lock.
func TryLockFile(path string, how Mode) (*Lock, error) {
	return lockNamed(path, os.O_RDWR|os.O_CREATE, func(f *os.File) error { return TryFlock(f, how) })
}

// LockExisting is LockFile for a file or folder that is not made: the error matches
// fs.ErrNotExist if there is none, or none any more once the lock is there.
func LockExisting(ctx context.Context, path string, how Mode) (*Lock, error) {
	return lockNamed(path, os.O_RDONLY, func(f *os.File) error { return Flock(ctx, f, how) })
}

// TryLockExisting is LockExisting that does not wait: the error matches ErrLocked if
// another holds the lock.
func TryLockExisting(path string, how Mode) (*Lock, error) {
	return lockNamed(path, os.O_RDONLY, func(f *os.File) error { return TryFlock(f, how) })
}

// IsLocked reports whether somebody holds a lock on a file or folder that would keep
// others from taking it as how says: Shared asks for exclusive holders only, Exclusive
// for any. Of two that ask for Exclusive at once, one may take the other for a holder.
// It is false for what does not exist or cannot be opened.
func IsLocked(path string, how Mode) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|safely, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return TryFlock(f, how) != nil
}

// safely keeps what somebody else has put in the place of a file from leading elsewhere or
// from being waited for.
const safely = unix.O_NOFOLLOW | unix.O_NONBLOCK

// lockNamed opens a path and locks it, until it has locked what has the name.
func lockNamed(path string, flags int, lock func(*os.File) error) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, flags|safely, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, err
		}
		if sameInode(f, path) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

func sameInode(f *os.File, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// File is the locked file. It must not be closed but by Release or Remove.
func (l *Lock) File() *os.File { return l.f }

// Name is the path that was locked.
func (l *Lock) Name() string { return l.f.Name() }

// Release gives the lock back; the file stays. It is idempotent, also after Remove,
// and does nothing to a nil lock.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// Remove removes the file and gives the lock back, so that no lock files pile up. It
// is idempotent, also after Release, and does nothing to a nil lock.
func (l *Lock) Remove() error {
	if l == nil || l.f == nil {
		return nil
	}
	// Removed while it is still locked: whoever waits for this file sees, once it has
	// the lock, that the name is gone, and begins again.
	err := os.Remove(l.f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.Release())
}
