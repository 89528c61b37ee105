package build

import (
	"context"
	"errors"
	"sync"
	"testing"

	"layered.build/builder/planner"
)

// TestImagesAreFoundWhileOthersAreLookedFor proves (under the race detector) that the images
// of a build can be asked for while more of them are looked for, each once.
func TestImagesAreFoundWhileOthersAreLookedFor(t *testing.T) {
	r := newResolver(nil, "", nil)
	var mu sync.Mutex
	looked := map[string]int{}
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "a", "c", "b"} {
		wg.Go(func() {
			base, err := r.once(t.Context(), name, func(b *resolvedBase) error {
				mu.Lock()
				defer mu.Unlock()
				looked[name]++
				b.base = &planner.BaseImage{Ref: name, Digest: "digest"}
				return nil
			})
			if err != nil || base.Ref != name {
				t.Errorf("%s: %v, %v", name, base, err)
			}
			if _, err := r.known(name, "digest"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for name, n := range looked {
		if n != 1 {
			t.Errorf("%s was looked for %d times", name, n)
		}
	}
}

// TestEndedSearches proves that a search which was ended is no answer for others, and that a
// failure is.
func TestEndedSearches(t *testing.T) {
	r := newResolver(nil, "", nil)
	ended, end := context.WithCancel(t.Context())
	end()
	fails := func(err error) func(*resolvedBase) error { return func(*resolvedBase) error { return err } }
	if _, err := r.once(ended, "a", fails(ended.Err())); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gone := errors.New("gone")
	for _, next := range []error{gone, errors.New("asked again")} {
		if _, err := r.once(t.Context(), "a", fails(next)); err != gone {
			t.Errorf("got %v", err)
		}
	}
	if _, err := r.known("a", "digest"); err == nil {
		t.Error("what was not found is known")
	}
}
