package shared

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
)

// settle frees what is not needed any more after an index was written. The cache is whole
// without that: what goes wrong is told.
func (t *exporter) settle(ctx context.Context, now *index) error {
	return t.tellStays(ctx, t.free(ctx, now))
}

// retire removes an index that was replaced, where the place keeps such ones and its size is
// bounded. What goes wrong is told.
func (t *exporter) retire(ctx context.Context, old *loadedScope) error {
	r, ok := t.Backend.(Retirer)
	if !ok || old.version == "" || t.MaxSize == 0 && !t.Reset {
		return nil
	}
	return t.tellStays(ctx, r.Retire(ctx, old.version))
}

// tellStays tells why something could not be freed. Of a place that never can it is known.
func (t *exporter) tellStays(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.session.tellOnce(fmt.Sprintf("cache %s: what is not needed any more stays: %v", t, err), "")
	}
	return nil
}

// unnamed remembers a blob that no index may name in the end.
func (t *exporter) unnamed(b Blob) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loose[b.Digest] = b
}

// replaced remembers what an index named that is not there any more.
func (t *exporter) replaced(old *loadedScope) {
	for _, b := range old.index.blobs() {
		t.unnamed(b)
	}
}

// free removes what this export has stored, found or left behind and the index does not name.
func (t *exporter) free(ctx context.Context, now *index) error {
	t.mu.Lock()
	blobs := make([]Blob, 0, len(t.loose))
	for _, b := range t.loose {
		blobs = append(blobs, b)
	}
	t.mu.Unlock()
	return removeUnnamed(ctx, t.Backend, blobs, now)
}

// removedMeanwhile reports whether blobs have gone meanwhile that were stored, or found there,
// before an index named them: others, whose indexes do not name them, have removed them. They
// are to be sent again.
func (t *exporter) removedMeanwhile(ctx context.Context, old *loadedScope, outputs map[cache.Key][][]layer) (bool, error) {
	if _, ok := t.Backend.(Remover); !ok {
		return false, nil
	}
	blobs := t.mountBlobs()
	for _, outs := range outputs {
		blobs = append(blobs, blobsOf(outs)...)
	}
	return t.lookAgain(ctx, old, blobs, func(d digest.Digest) bool { _, ok := t.loose[d]; return ok })
}

// lookAgain lets those blobs be sent again that an index does not name, and that are gone. It
// looks for those that may be; t.mu is held while that is asked.
func (t *exporter) lookAgain(ctx context.Context, named *loadedScope, blobs []Blob, maybe func(digest.Digest) bool) (lost bool, err error) {
	seen := map[digest.Digest]bool{}
	for _, b := range named.index.blobs() {
		seen[b.Digest] = true
	}
	var doubtful []Blob
	t.mu.Lock()
	for _, b := range blobs {
		if !seen[b.Digest] && maybe(b.Digest) {
			doubtful = append(doubtful, b)
		}
		seen[b.Digest] = true
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

// removeUnnamed removes those of the blobs that an index does not name, where the place can.
func removeUnnamed(ctx context.Context, b Backend, blobs []Blob, now *index) error {
	r, ok := b.(Remover)
	if !ok {
		return nil
	}
	kept := map[digest.Digest]bool{}
	for _, b := range now.blobs() {
		kept[b.Digest] = true
	}
	var gone []Blob
	for _, b := range blobs {
		if !kept[b.Digest] {
			gone = append(gone, b)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := r.Remove(ctx, gone); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func (t *exporter) isLoose() bool {
	l, ok := t.Backend.(Loose)
	return ok && l.Loose()
}

// wait waits until others have probably written what they were about to write.
func wait(ctx context.Context) {
	select {
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
	pause(ctx, 4)
}

// pause waits for a random time that becomes longer with each round.
func pause(ctx context.Context, round int) {
	most := 20 * time.Millisecond << min(round, 6)
	select {
	case <-time.After(rand.N(most)):
	case <-ctx.Done():
	}
}
