// Package cachetest is the conformance suite for implementations of cache.Cache
// and cache.Locker, with one in memory for tests of what uses them.
package cachetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

// Subject is what is tested.
type Subject struct {
	Cache  cache.Cache
	Locker cache.Locker
	// Drop makes the cache believe that a layer is gone.
	Drop func(snapshot.LayerID)
}

// Run tests subjects; make returns a new, empty one.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	for name, test := range map[string]func(*testing.T, Subject){
		"MissThenHit":    missThenHit,
		"Overwrite":      overwrite,
		"LayerGone":      layerGone,
		"Isolation":      isolation,
		"History":        history,
		"LockExcludes":   lockExcludes,
		"LockCancel":     lockCancel,
		"LockPerKey":     lockPerKey,
		"ConcurrentUse":  concurrentUse,
		"CanceledLookup": canceledLookup,
	} {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

// Key returns a well-formed key.
func Key(s string) cache.Key { return cache.Key(digest.FromString(s)) }

// Record returns a record with one output of one layer.
func Record(step, layer string) *cache.Record {
	return &cache.Record{
		Step:    step,
		Created: time.Unix(1000, 0).UTC(),
		Outputs: []snapshot.Stack{{{
			ID: snapshot.LayerID(layer), DiffID: snapshot.DiffID(digest.FromString(layer)),
			Content: digest.FromString("content " + layer), Size: 7, Created: time.Unix(900, 0).UTC(),
		}}},
		Parts:    []cache.Part{{Name: "op", Value: "exec"}, {Name: "caf\xe9", Value: "v"}, {Name: "v", Value: "caf\xe8"}},
		Findings: []cache.Finding{{Rule: "Rule", Text: "it is \xff odd"}},
	}
}

func missThenHit(t *testing.T, s Subject) {
	k := Key("a")
	if _, err := s.Cache.Get(t.Context(), k); !errors.Is(err, cache.ErrMiss) {
		t.Fatalf("empty cache: %v", err)
	}
	rec := Record("step", "l1")
	if err := s.Cache.Put(t.Context(), k, rec); err != nil {
		t.Fatal(err)
	}
	got, err := s.Cache.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if got.Key != k || !reflect.DeepEqual(got.Outputs, rec.Outputs) || !reflect.DeepEqual(got.Parts, rec.Parts) || !reflect.DeepEqual(got.Findings, rec.Findings) {
		t.Errorf("got %+v, want %+v", got, rec)
	}
}

func overwrite(t *testing.T, s Subject) {
	k := Key("a")
	for _, layer := range []string{"l1", "l2"} {
		if err := s.Cache.Put(t.Context(), k, Record("step", layer)); err != nil {
			t.Fatal(err)
		}
		got, err := s.Cache.Get(t.Context(), k)
		if err != nil || got.Outputs[0][0].ID != snapshot.LayerID(layer) {
			t.Fatalf("got %+v, %v, want %s", got, err, layer)
		}
	}
}

func layerGone(t *testing.T, s Subject) {
	k := Key("a")
	if err := s.Cache.Put(t.Context(), k, Record("step", "l1")); err != nil {
		t.Fatal(err)
	}
	s.Drop("l1")
	if _, err := s.Cache.Get(t.Context(), k); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("record of a layer that is gone: %v", err)
	}
}

func isolation(t *testing.T, s Subject) {
	k, rec := Key("a"), Record("step", "l1")
	if err := s.Cache.Put(t.Context(), k, rec); err != nil {
		t.Fatal(err)
	}
	rec.Outputs[0][0].ID = "changed"
	got, err := s.Cache.Get(t.Context(), k)
	if err != nil || got.Outputs[0][0].ID != "l1" {
		t.Errorf("the cache shares memory with its caller: %+v, %v", got, err)
	}
}

func history(t *testing.T, s Subject) {
	h, ok := s.Cache.(cache.History)
	if !ok {
		t.Skip("this cache keeps no history")
	}
	if _, err := h.Latest(t.Context(), "p", "step"); !errors.Is(err, cache.ErrMiss) {
		t.Fatalf("no history yet: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		rec := Record("step", "l1")
		rec.Definition, rec.Project, rec.Names = Key(name), "p", []string{"step", "place of " + name}
		for _, k := range []cache.Key{rec.Definition, Key("result of " + name)} {
			if err := s.Cache.Put(t.Context(), k, rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Drop("l1")
	got, err := h.Latest(t.Context(), "p", "step")
	if err != nil || got.Key != Key("b") {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := h.Latest(t.Context(), "p", "place of a"); err != nil || got.Key != Key("a") {
		t.Errorf("by the second name: %+v, %v", got, err)
	}
	if got, err := h.Latest(t.Context(), "another", "step"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("of another project: %+v, %v", got, err)
	}
}

func lockExcludes(t *testing.T, s Subject) {
	var inside, most, entered int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				unlock, err := s.Locker.Lock(t.Context(), Key("a"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				entered++
				most = max(most, inside)
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
				unlock()
			}
		})
	}
	wg.Wait()
	if most != 1 || entered != 160 {
		t.Errorf("%d at once, %d in all", most, entered)
	}
}

func lockCancel(t *testing.T, s Subject) {
	unlock, err := s.Locker.Lock(t.Context(), Key("a"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	done := make(chan error)
	go func() {
		_, err := s.Locker.Lock(ctx, Key("a"))
		done <- err
	}()
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("cancelled lock: %v", err)
	}
	unlock()
	again, err := s.Locker.Lock(t.Context(), Key("a"))
	if err != nil {
		t.Fatalf("lock after a cancelled wait: %v", err)
	}
	again()
}

func lockPerKey(t *testing.T, s Subject) {
	for i := range 3 {
		unlock, err := s.Locker.Lock(t.Context(), Key(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
}

func concurrentUse(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 25 {
				k := Key(fmt.Sprint(n))
				if err := s.Cache.Put(t.Context(), k, Record("step", fmt.Sprint("l", i))); err != nil {
					t.Error(err)
				}
				if _, err := s.Cache.Get(t.Context(), k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func canceledLookup(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Cache.Get(ctx, Key("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
