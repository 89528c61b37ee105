// Package collect measures what a store holds, chooses what goes, and has what is damaged
// found. What lies in the store's folders, and how it is removed, is known by their
// keepers (package snapshot/gc).
package collect

import (
	"context"
	"fmt"
	"time"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// Store is everything below one folder.
type Store struct {
	Layers *snapshot.Store
	// Keepers look after the folders of the store, no two after the same.
	Keepers []gc.Keeper
}

// Usage is what a store holds.
type Usage struct {
	Items []Item
	Total int64 // bytes on disk
}

// Usage measures the store.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	found, err := s.measure(ctx)
	if err != nil {
		return nil, err
	}
	pins, err := s.Layers.Pins()
	if err != nil {
		return nil, err
	}
	inv, err := s.takeInventory(ctx, pins, time.Time{})
	if err != nil {
		return nil, err
	}
	return &Usage{Items: inv.items(found), Total: found.total}, nil
}

// takeInventory asks all keepers what there is. What they keep only while it is used may
// go if it was not used since a time, if that is not zero.
func (s *Store) takeInventory(ctx context.Context, pins snapshot.Pins, since time.Time) (*inventory, error) {
	inv := newInventory(pins, since)
	for _, k := range s.Keepers {
		c, err := k.Items(ctx)
		if err != nil {
			return nil, fmt.Errorf("look what the store holds: %w", err)
		}
		inv.add(k, c)
	}
	inv.connect()
	return inv, nil
}
