package shared

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
)

// settle frees what is not needed any more after an index was written. It reports whether
// blobs have gone meanwhile that the index names: others, whose indexes did not name them
// any more, have removed them, and they are to be sent again.
func (t *exporter) settle(ctx context.Context, old *loadedScope, now *index, outputs map[cache.Key][][]layer) (again bool, err error) {
	if _, ok := t.Backend.(Remover); ok {
		if again, err = t.removedMeanwhile(ctx, old, outputs); err != nil || again {
			return again, err
		}
	}
	err = removeUnnamed(ctx, t.Backend, old.index, now)
	if r, ok := t.Backend.(Retirer); ok && old.version != "" && (t.MaxSize > 0 || t.Reset) {
		err = errors.Join(err, r.Retire(ctx, old.version))
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil { // the cache is whole all the same
		t.session.tellOnce(fmt.Sprintf("cache %s: what is not needed any more stays: %v", t, err), "")
	}
	return false, nil
}

// removedMeanwhile looks again for blobs that were found there although the index did not
// name them.
func (t *exporter) removedMeanwhile(ctx context.Context, old *loadedScope, outputs map[cache.Key][][]layer) (bool, error) {
	named := map[digest.Digest]bool{}
	for _, b := range old.index.blobs() {
		named[b.Digest] = true
	}
	var doubtful []Blob
	t.mu.Lock()
	for d := range t.found {
		if b, ok := blobIn(outputs, d); ok && !named[d] {
			doubtful = append(doubtful, b)
		}
	}
	t.mu.Unlock()
	if len(doubtful) == 0 {
		return false, nil
	}
	missing, err := t.Missing(ctx, doubtful)
	if err != nil {
		return false, err
	}
	t.forget(missing)
	return len(missing) > 0, nil
}

// removeUnnamed removes the blobs that an index named before and does not any more, where
// the place can.
func removeUnnamed(ctx context.Context, b Backend, old, now *index) error {
	r, ok := b.(Remover)
	if !ok {
		return nil
	}
	kept := map[digest.Digest]bool{}
	for _, b := range now.blobs() {
		kept[b.Digest] = true
	}
	gone := slices.DeleteFunc(old.blobs(), func(b Blob) bool { return kept[b.Digest] })
	if len(gone) == 0 {
		return nil
	}
	if err := r.Remove(ctx, gone); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
