// Package disk keeps cache records as files.
package disk

import (
	"context"
	"errors"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

// Cache is a folder of records. It implements cache.Cache, cache.Locker and
// cache.History, and is safe for concurrent use by goroutines and processes.
type Cache struct {
	root string
	has  func(snapshot.LayerID) bool
}

// Open returns the cache in the folder root, which is made if needed. Has says
// whether a layer's data exists; a record that names one that does not is a miss.
func Open(root string, has func(snapshot.LayerID) bool) (*Cache, error) {
	return &Cache{root: root, has: has}, nil
}

// Get implements cache.Cache.
func (c *Cache) Get(ctx context.Context, key cache.Key) (*cache.Record, error) {
	return nil, cache.ErrMiss
}

// Put implements cache.Cache.
func (c *Cache) Put(ctx context.Context, key cache.Key, rec *cache.Record) error {
	return errors.New("not implemented yet")
}

// Lock implements cache.Locker.
func (c *Cache) Lock(ctx context.Context, key cache.Key) (func(), error) {
	return nil, errors.New("not implemented yet")
}

// Latest implements cache.History.
func (c *Cache) Latest(ctx context.Context, step string) (*cache.Record, error) {
	return nil, cache.ErrMiss
}
