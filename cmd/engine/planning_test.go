package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/snapshot"
)

// TestCollectBesidePlanning proves that nothing is lost that one engine of a process uses
// while it plans, however little may stay, when another engine collects at the same time,
// and it itself as at the start of a build.
func TestCollectBesidePlanning(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"full disk":     {"BUILDER_RESERVED_SPACE": "0", "BUILDER_MIN_FREE_SPACE": "100%"},
		"nothing stays": {"BUILDER_RESERVED_SPACE": "0", "BUILDER_MIN_FREE_SPACE": "0", "BUILDER_MAX_USED_SPACE": "1b"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, t.TempDir(), env)
			closed(t, open(t, h)) // what is in a new store is not measured at once
			planner, other := open(t, h), open(t, h)
			ctx, stop := context.WithCancel(t.Context())
			var collecting sync.WaitGroup
			garbage := 0
			for _, e := range []*engine.Engine{planner, other} {
				collecting.Go(func() {
					for ctx.Err() == nil {
						if e == other { // what nobody needs
							garbage++
							writeLayer(t, e.Store, fmt.Sprint("garbage-", garbage))
							if err := e.Store.Release(); err != nil {
								t.Error(err)
							}
						}
						forget(t, h)
						e.Collect(ctx)
					}
				})
			}
			var p plan
			for n := range 40 {
				p.use(t, h, planner, n)
			}
			stop()
			collecting.Wait()
			p.check(t, planner)
			if left, err := other.Store.IDs(); err != nil || len(left) >= len(p.layers)+garbage {
				t.Errorf("nothing was collected: of %d layers %d are left, %v", len(p.layers)+garbage, len(left), err)
			}

			// Once it has ended all may go.
			if err := planner.Store.Release(); err != nil {
				t.Fatal(err)
			}
			forget(t, h)
			writeLayer(t, other.Store, "the last")
			closed(t, planner)
			closed(t, other)
			e := open(t, h)
			defer closed(t, e)
			if left, err := e.Store.IDs(); err != nil || len(left) != 0 {
				t.Errorf("%d layers are left, %v", len(left), err)
			}
		})
	}
}

// plan is what a build relies on.
type plan struct {
	layers []snapshot.Layer
	blobs  []digest.Digest
	keys   []cache.Key
}

// use finds a layer, a blob and a record that the engine of another build has just made,
// and is about to give up.
func (p *plan) use(t *testing.T, h *engine.Host, e *engine.Engine, n int) {
	t.Helper()
	maker := open(t, h)
	defer closed(t, maker)
	l := writeLayer(t, maker.Store, fmt.Sprint("layer-", n))
	d, err := maker.Store.Blobs().Put(t.Context(), fmt.Append(nil, "blob-", n))
	if err != nil {
		t.Fatal(err)
	}
	key := cache.Key(digest.FromString(fmt.Sprint("key-", n)))
	if err := maker.Cache.Put(t.Context(), key, &cache.Record{Step: fmt.Sprint("step ", n), Outputs: []snapshot.Stack{{l}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Cache.Get(t.Context(), key); err != nil || !e.Store.Blobs().Has(d) {
		t.Errorf("what another build holds is gone: %v", err)
	}
	p.layers, p.blobs, p.keys = append(p.layers, l), append(p.blobs, d), append(p.keys, key)
}

// check proves that all of it is still there.
func (p *plan) check(t *testing.T, e *engine.Engine) {
	t.Helper()
	for i, l := range p.layers {
		if err := e.Store.Check(t.Context(), l.ID, false); err != nil {
			t.Errorf("layer %d: %v", i, err)
		}
		if _, err := e.Store.Blobs().ReadAll(p.blobs[i]); err != nil {
			t.Error(err)
		}
		if _, err := e.Cache.Get(t.Context(), p.keys[i]); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

// forget makes it unknown how large the store is, so that it is measured.
func forget(t *testing.T, h *engine.Host) {
	t.Helper()
	if err := os.Remove(filepath.Join(h.Root(), "room.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
