package registry

import (
	"sync"
	"testing"
)

// A copy from one registry to another is told of once: by the side that takes it.
func TestCopyProgress(t *testing.T) {
	isolate(t)
	from, to := newTestRegistry(t), newTestRegistry(t)
	c := newTestClient(t, quick)
	mustPush(t, c, from.host+"/app", testImage(t, c, "app", 1<<20, 100))
	var mu sync.Mutex
	done := map[string]int{}
	ctx := WithProgress(t.Context(), func(item string, cur, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if cur == total {
			done[item]++
		}
	})
	src, err := c.Source(from.host + "/app")
	if err != nil {
		t.Fatal(err)
	}
	dst, err := c.Destination(to.host+"/copy", src, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(ctx, dst, src, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(done) != 3 {
		t.Errorf("told of %v, want two layers and the configuration", done)
	}
	for item, n := range done {
		if n != 1 {
			t.Errorf("told %d times that %s is done", n, item)
		}
	}
	if ProgressOf(WithProgress(ctx, nil)) == nil {
		t.Error("no progress is not a function that does nothing")
	}
}
