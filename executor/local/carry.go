package local

import (
	"context"
	"errors"

	"layered.build/builder/executor/cachemount"
	"layered.build/builder/snapshot/files"
)

// CacheMounts brings contents of cache mounts from elsewhere, and is told which were used.
// Implementations are safe for concurrent use.
type CacheMounts interface {
	// Restore makes dir, where nothing is, with what the mount has elsewhere. It is false if
	// that is nothing, or cannot be had; nothing is at dir then. An error is one of this
	// machine, or the cause of ctx.
	Restore(ctx context.Context, m cachemount.Mount, dir string) (bool, error)
	// Used is told of a mount that a process could write to, when it has ended; ok says
	// whether its step succeeded.
	Used(m cachemount.Mount, ok bool)
}

// restoreCache brings the content of a mount from elsewhere if it has none here. The lock is
// held exclusively, so that nobody works in a folder that is replaced.
func (m *mounter) restoreCache(ctx context.Context, c cachemount.Mount) error {
	if m.w.build.CacheMounts == nil || !c.IsEmpty() {
		return nil
	}
	return c.Replace(func(fresh string) (bool, error) { return m.w.build.CacheMounts.Restore(ctx, c, fresh) })
}

// restoreShared is restoreCache for a mount that several may use: if anybody does, it stays
// as it is; if somebody restores it, its lock will be waited for.
func (m *mounter) restoreShared(ctx context.Context, c cachemount.Mount) error {
	if m.w.build.CacheMounts == nil || !c.IsEmpty() {
		return nil
	}
	lock, err := files.TryLockFile(c.Lock(), files.Exclusive)
	if errors.Is(err, files.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(m.restoreCache(ctx, c), lock.Release())
}

// tellUsed says how the step of the process has ended that could write to the mounts.
func (m *mounter) tellUsed(ok bool) {
	for _, c := range m.written {
		m.w.build.CacheMounts.Used(c, ok)
	}
}
