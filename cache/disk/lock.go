package disk

import (
	"context"
	"fmt"
	"path/filepath"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot/files"
)

// Lock implements cache.Locker. Goroutines of this process wait for each other
// without polling.
func (c *Cache) Lock(ctx context.Context, key cache.Key) (func(), error) {
	h, err := keyHex(key)
	if err != nil {
		return nil, err
	}
	release, err := c.turns.Take(ctx, h)
	if err != nil {
		return nil, err
	}
	lock, err := files.LockFile(ctx, filepath.Join(c.root, "locks", h), files.Exclusive)
	if err != nil {
		release()
		return nil, fmt.Errorf("lock %s: %w", key, err)
	}
	return func() {
		lock.Remove()
		release()
	}, nil
}
