package mounts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/errgroup"
)

// TestAhead fetches no more packs than the batches that are begun need, and a few more.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manifest{}
		var batches []*batch
		for i := range 4 * ahead {
			m.Packs = append(m.Packs, Pack{Size: 1})
			batches = append(batches, &batch{packs: []int{i}})
		}
		var opened atomic.Int64
		f := newFetcher(m, batches, Restoring{Scratch: t.TempDir(), Open: func(context.Context, Pack) (io.ReadCloser, error) {
			opened.Add(1)
			return io.NopCloser(bytes.NewReader([]byte{1})), nil
		}})
		g, ctx := errgroup.WithContext(t.Context())
		f.start(ctx, g)
		synctest.Wait()
		if n := opened.Load(); n != ahead {
			t.Errorf("%d packs were fetched before anything was begun", n)
		}
		for i, b := range batches {
			f.begin(ctx, b)
			synctest.Wait()
			if n, want := opened.Load(), min(i+1+ahead, len(batches)); n != int64(want) {
				t.Errorf("batch %d: %d packs were fetched, not %d", i, n, want)
			}
			_, err := f.get(ctx, i)
			must(t, err)
			f.used(b)
		}
		must(t, errors.Join(g.Wait(), f.close()))
	})
}
