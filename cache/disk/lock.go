package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/cache"
)

// The wait between two looks at a lock of another process. (A blocking flock
// could not be cancelled without leaving a thread behind.)
const (
	pollMin = time.Millisecond
	pollMax = 50 * time.Millisecond
)

// Lock implements cache.Locker. Goroutines of this process wait for each other
// without polling.
func (c *Cache) Lock(ctx context.Context, key cache.Key) (func(), error) {
	h, err := keyHex(key)
	if err != nil {
		return nil, err
	}
	p := filepath.Join(c.root, "locks", h)
	release, err := c.hold(ctx, p)
	if err != nil {
		return nil, err
	}
	f, err := flock(ctx, p)
	if err != nil {
		release()
		return nil, fmt.Errorf("lock %s: %w", key, err)
	}
	return func() {
		// Removed while it is still locked: whoever waits for this file sees, once
		// it has the lock, that the name is gone, and begins again.
		os.Remove(p)
		f.Close()
		release()
	}, nil
}

// hold takes the in-process half of a lock.
func (c *Cache) hold(ctx context.Context, p string) (release func(), err error) {
	for {
		c.mu.Lock()
		busy, ok := c.held[p]
		if !ok {
			mine := make(chan struct{})
			c.held[p] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.held, p)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func flock(ctx context.Context, p string) (*os.File, error) {
	wait := pollMin
	for {
		f, err := tryFlock(p)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		}
		wait = min(2*wait, pollMax)
	}
}

// tryFlock locks the file that has the name p, or fails with EWOULDBLOCK.
func tryFlock(p string) (*os.File, error) {
	f, err := os.OpenFile(p, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	mine, err1 := f.Stat()
	named, err2 := os.Stat(p)
	if err1 != nil || err2 != nil || !os.SameFile(mine, named) {
		f.Close()
		return nil, unix.EWOULDBLOCK
	}
	return f, nil
}
