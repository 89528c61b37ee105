package cachetest

import (
	"context"
	"encoding/json"
	"sync"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

// Memory is a cache that lives as long as the process. The zero value is empty.
type Memory struct {
	mu      sync.Mutex // guards all below
	records map[cache.Key][]byte
	latest  map[string]cache.Key
	gone    map[snapshot.LayerID]bool
	locks   map[cache.Key]chan struct{}
}

// Drop makes records that name a layer misses.
func (m *Memory) Drop(id snapshot.LayerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone == nil {
		m.gone = map[snapshot.LayerID]bool{}
	}
	m.gone[id] = true
}

// Forget removes all records of the steps of a name.
func (m *Memory) Forget(step string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.records {
		if rec, err := m.get(k); err == nil && rec.Step == step {
			delete(m.records, k)
		}
	}
}

// Get implements cache.Cache.
func (m *Memory) Get(ctx context.Context, key cache.Key) (*cache.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, err := m.get(key)
	if err != nil {
		return nil, err
	}
	for _, s := range rec.Outputs {
		for _, l := range s {
			if m.gone[l.ID] {
				return nil, cache.ErrMiss
			}
		}
	}
	return rec, nil
}

func (m *Memory) get(key cache.Key) (*cache.Record, error) {
	b, ok := m.records[key]
	if !ok {
		return nil, cache.ErrMiss
	}
	var rec cache.Record
	return &rec, json.Unmarshal(b, &rec)
}

// Put implements cache.Cache.
func (m *Memory) Put(ctx context.Context, key cache.Key, rec *cache.Record) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := *rec
	r.Key = key
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records, m.latest = map[cache.Key][]byte{}, map[string]cache.Key{}
	}
	m.records[key] = b
	if key == r.Definition {
		for _, name := range r.Names {
			m.latest[r.Project+"\x00"+name] = key
		}
	}
	return nil
}

// Latest implements cache.History.
func (m *Memory) Latest(ctx context.Context, project, name string) (*cache.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(m.latest[project+"\x00"+name])
}

// Lock implements cache.Locker.
func (m *Memory) Lock(ctx context.Context, key cache.Key) (func(), error) {
	m.mu.Lock()
	if m.locks == nil {
		m.locks = map[cache.Key]chan struct{}{}
	}
	l, ok := m.locks[key]
	if !ok {
		l = make(chan struct{}, 1)
		m.locks[key] = l
	}
	m.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

var (
	_ cache.Cache   = (*Memory)(nil)
	_ cache.Locker  = (*Memory)(nil)
	_ cache.History = (*Memory)(nil)
)
