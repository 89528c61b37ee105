package registry

import (
	"net/http"
	"strings"
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
	done = map[string]int{}
	if _, err := Copy(ctx, dst, src, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	from.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		switch { // the registry of the tests has blobs for all repositories
		case r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/other/"):
			http.NotFound(w, r)
		case r.URL.Query().Get("from") == "app":
			w.WriteHeader(http.StatusCreated)
		default:
			return false
		}
		return true
	})
	again, err := c.Destination(from.host+"/other", src, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(ctx, again, src, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for item := range done {
		why, _, _ := strings.Cut(item, ": ")
		told[why]++
	}
	if told["already exists"] != 3 || told["mounted from app"] != 3 || len(told) != 2 {
		t.Errorf("of what is not sent: %v", done)
	}
	if ProgressOf(WithProgress(ctx, nil)) == nil {
		t.Error("no progress is not a function that does nothing")
	}
}
