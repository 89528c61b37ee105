package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"layered.build/builder/snapshot/files"
)

// Lock waits for the exclusive lock of a thing's name. It is given back by Remove.
func (l *Lease) Lock(ctx context.Context, name string) (*files.Lock, error) {
	return files.LockFile(ctx, l.path(LocksDir, name), files.Exclusive)
}

// TryLock is Lock that does not wait: the error matches files.ErrLocked.
func (l *Lease) TryLock(name string) (*files.Lock, error) {
	return files.TryLockFile(l.path(LocksDir, name), files.Exclusive)
}

// Reclaim removes what is left in folders of leases that ended, and their locks.
func (l *Lease) Reclaim(ctx context.Context, folders ...string) error {
	var errs []error
	for _, folder := range folders {
		left, err := l.Abandoned(ctx, folder)
		if err != nil {
			return err
		}
		for _, p := range left {
			errs = append(errs, files.RemoveAll(p))
		}
	}
	return errors.Join(append(errs, l.reclaimLocks(ctx))...)
}

// Abandoned returns what is in a folder of leases that ended.
func (l *Lease) Abandoned(ctx context.Context, folder string) ([]string, error) {
	names, err := os.ReadDir(l.path(folder))
	if err != nil {
		return nil, fmt.Errorf("look for what was abandoned: %w", err)
	}
	var left []string
	dead := map[string]bool{} // by lease
	for _, n := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		owner, _, _ := strings.Cut(n.Name(), "-")
		isDead, known := dead[owner]
		if !known {
			if isDead, err = l.isDead(owner); err != nil {
				return nil, fmt.Errorf("look for what was abandoned: %w", err)
			}
			dead[owner] = isDead
		}
		if isDead {
			left = append(left, filepath.Join(l.path(folder), n.Name()))
		}
	}
	return left, nil
}

// isDead reports whether nobody holds a lock, and removes it then.
func (l *Lease) isDead(name string) (bool, error) {
	lock, err := l.TryLock(name)
	if errors.Is(err, files.ErrLocked) {
		return false, nil
	}
	return err == nil, errors.Join(err, lock.Remove())
}

// reclaimLocks removes lock files that nobody holds.
func (l *Lease) reclaimLocks(ctx context.Context) error {
	names, err := os.ReadDir(l.path(LocksDir))
	if err != nil {
		return fmt.Errorf("reclaim locks: %w", err)
	}
	for _, n := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := l.isDead(n.Name()); err != nil {
			return fmt.Errorf("reclaim locks: %w", err)
		}
	}
	return nil
}
