package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flock is an exclusive lock on a file, held until release or until the process
// ends. The file is removed on release, so that no lock files pile up.
type flock struct{ f *os.File }

// lockFile waits for the lock at path, or until ctx ends. Goroutines of one
// process exclude each other too.
func lockFile(ctx context.Context, path string) (*flock, error) {
	delay := time.Millisecond
	for {
		l, err := tryLockFile(path)
		if err != nil || l != nil {
			return l, err
		}
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		case <-t.C:
		}
		delay = min(2*delay, 50*time.Millisecond)
	}
}

// tryLockFile returns nil without an error if another holds the lock.
func tryLockFile(path string) (*flock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, nil
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The one who held it before may have removed the file meanwhile: then
		// this lock excludes nobody.
		if sameInode(f, path) {
			return &flock{f: f}, nil
		}
		f.Close()
	}
}

func sameInode(f *os.File, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// release gives the lock up. It is idempotent.
func (l *flock) release() {
	if l.f == nil {
		return
	}
	os.Remove(l.f.Name())
	l.f.Close()
	l.f = nil
}
