package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sync/errgroup"
)

// Materialize fetches and unpacks the layers of a stack that are missing, several
// at once. Layers in tar form get their directories too.
func (s *Store) Materialize(ctx context.Context, stack Stack) error {
	return s.ensure(ctx, stack, true)
}

// ensure brings the layers of a stack on disk, with their directories if needDir.
// Layers are fetched and unpacked independently of each other; only one that
// needs to know what lies below it waits for that.
func (s *Store) ensure(ctx context.Context, stack Stack, needDir bool) error {
	return s.ensureThose(ctx, stack, needDir, func(int) bool { return true })
}

// ensureThose is ensure of the layers that are wanted. What one of them needs to know of
// those below, it fetches.
func (s *Store) ensureThose(ctx context.Context, stack Stack, needDir bool, wanted func(i int) bool) error {
	var g *errgroup.Group
	var tasks []*layerTask
	for i, l := range stack {
		if !wanted(i) || s.isReady(l, needDir) {
			continue
		}
		if g == nil {
			g, ctx = errgroup.WithContext(ctx)
		}
		t := &layerTask{s: s, layer: l, needDir: needDir, below: stack[:i], before: tasks, done: make(chan struct{})}
		tasks = append(tasks, t)
		g.Go(func() error {
			defer close(t.done)
			t.err = t.run(ctx)
			return t.err
		})
	}
	if g == nil {
		return nil
	}
	return g.Wait()
}

func (s *Store) isReady(l Layer, needDir bool) bool {
	if !s.onDisk(l.ID) {
		return false
	}
	return !needDir || l.Empty || s.hasForm(l.ID, dirForm) && !s.isLacking(l.ID) && !s.isRestored(l.ID)
}

// layerTask brings one layer on disk.
type layerTask struct {
	s       *Store
	layer   Layer
	needDir bool
	below   Stack
	before  []*layerTask // of the layers below
	done    chan struct{}
	err     error // valid when done is closed
	hasSlot bool
}

func (t *layerTask) run(ctx context.Context) error {
	id := t.layer.ID
	if err := checkID(id); err != nil {
		return err
	}
	// The lock comes before the slot, so that nobody who has a slot waits for a
	// lock; who waits for layers below gives the slot back meanwhile.
	lock, err := t.s.lease.Lock(ctx, string(id))
	if err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	defer lock.Remove()
	if t.s.isReady(t.layer, t.needDir) {
		return nil
	}
	if err := t.acquire(ctx); err != nil {
		return err
	}
	defer t.releaseSlot()
	if t.s.onDisk(id) {
		err := t.s.makeDir(ctx, id)
		if err == nil && t.s.isRestored(id) {
			err = t.s.restore(id)
		}
		if err == nil && t.s.isLacking(id) {
			err = t.s.complete(id)
		}
		if err != nil {
			return fmt.Errorf("unpack layer %s: %w", id, err)
		}
		return nil
	}
	lazy, ok := t.s.lazyLayer(id)
	if !ok {
		return fmt.Errorf("layer %s (%s) is not in the store: %w", id, t.layer.DiffID, fs.ErrNotExist)
	}
	if t.s.borrow(ctx, lazy) {
		return nil
	}
	if err := t.s.fetchLayer(ctx, lazy, t.lower); err != nil {
		return &FetchError{What: "pull layer", DiffID: lazy.DiffID, Blob: lazy.Blob.Digest, Err: err}
	}
	return nil
}

func (t *layerTask) acquire(ctx context.Context) error {
	if err := t.s.slots.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	t.hasSlot = true
	return nil
}

func (t *layerTask) releaseSlot() {
	if t.hasSlot {
		t.s.slots.Release(1)
		t.hasSlot = false
	}
}

// lower returns the merged view of the layers below, once they are on disk.
func (t *layerTask) lower(ctx context.Context) (Tree, error) {
	t.releaseSlot()
	for _, b := range t.before {
		select {
		case <-b.done:
			if b.err != nil {
				return nil, errors.New("a layer below failed")
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	// A layer in directory form needs the others in that form for hard links.
	if err := t.s.ensure(ctx, t.below, true); err != nil {
		return nil, err
	}
	if err := t.acquire(ctx); err != nil {
		return nil, err
	}
	return t.s.Tree(ctx, t.below)
}
