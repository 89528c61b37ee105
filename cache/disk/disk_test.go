package disk

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/snapshot"
)

func open(t *testing.T, root string) (*Cache, func(snapshot.LayerID)) {
	t.Helper()
	var gone sync.Map
	c, err := Open(root, func(id snapshot.LayerID) bool {
		_, ok := gone.Load(id)
		return !ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, func(id snapshot.LayerID) { gone.Store(id, true) }
}

func TestDisk(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cachetest.Subject {
		c, drop := open(t, t.TempDir())
		return cachetest.Subject{Cache: c, Locker: c, Drop: drop}
	})
}

// Two handles on one folder behave as two processes do: flock is held by open
// file, not by process.
func TestTwoProcesses(t *testing.T) {
	root := t.TempDir()
	a, _ := open(t, root)
	b, _ := open(t, root)
	var mu sync.Mutex
	inside, most := 0, 0
	var wg sync.WaitGroup
	for _, c := range []*Cache{a, b, a, b} {
		wg.Go(func() {
			for range 25 {
				unlock, err := c.Lock(t.Context(), cachetest.Key("k"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
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
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
	left, err := os.ReadDir(filepath.Join(root, "locks"))
	if err != nil || len(left) != 0 {
		t.Errorf("lock files left: %v, %v", left, err)
	}
}

func TestDamagedRecords(t *testing.T) {
	root := t.TempDir()
	c, _ := open(t, root)
	key := cachetest.Key("k")
	p, err := c.path(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Put(t.Context(), key, cachetest.Record("step", "l1")); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	other := cachetest.Key("other")
	if err := c.Put(t.Context(), other, cachetest.Record("step", "l1")); err != nil {
		t.Fatal(err)
	}
	op, _ := c.path(other)
	wrongKey, err := os.ReadFile(op)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)/2] ^= 1
	for name, b := range map[string][]byte{
		"empty": nil, "truncated": good[:len(good)-9], "flipped": flipped,
		"other key": wrongKey, "headless": good[10:], "other version": append([]byte("builder-record 9 "), good[17:]...),
	} {
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), key); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(p, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), key); err != nil {
		t.Errorf("restored record: %v", err)
	}
}

func TestRecency(t *testing.T) {
	c, _ := open(t, t.TempDir())
	key := cachetest.Key("k")
	if err := c.Put(t.Context(), key, cachetest.Record("step", "l1")); err != nil {
		t.Fatal(err)
	}
	p, _ := c.path(key)
	for _, tc := range []struct {
		age     time.Duration
		touched bool
	}{{30 * time.Minute, false}, {3 * time.Hour, true}} {
		was := time.Now().Add(-tc.age).Truncate(time.Second)
		if err := os.Chtimes(p, was, was); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := !fi.ModTime().Equal(was); got != tc.touched {
			t.Errorf("age %v: touched %v", tc.age, got)
		}
	}
}

func TestHostileKey(t *testing.T) {
	c, _ := open(t, t.TempDir())
	for _, k := range []cache.Key{"", "sha256:", "sha256:../../../../etc/passwd", "sha256:zz"} {
		if _, err := c.Get(t.Context(), k); err == nil || errors.Is(err, cache.ErrMiss) {
			t.Errorf("Get(%q): %v", k, err)
		}
		if err := c.Put(t.Context(), k, &cache.Record{}); err == nil {
			t.Errorf("Put(%q) succeeded", k)
		}
	}
}
