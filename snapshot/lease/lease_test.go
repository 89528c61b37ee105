package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"layered.build/builder/snapshot/files"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{LocksDir, TmpDir, "things"} {
		must(t, os.Mkdir(filepath.Join(root, d), 0o700))
	}
	return root
}

func open(t *testing.T, root string) *Lease {
	t.Helper()
	l, err := Open(root)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func pinned(t *testing.T, l *Lease) string {
	t.Helper()
	pins, err := l.Pins()
	must(t, err)
	return strings.Join(slices.Sorted(maps.Keys(pins)), " ")
}

// TestPinsOfTwo proves that two leases of one process pin and release by themselves.
func TestPinsOfTwo(t *testing.T) {
	root := folder(t)
	a, b, c := open(t, root), open(t, root), open(t, root)
	a.Pin("x")
	a.Pin("a")
	b.Pin("x")
	b.Pin("b")
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, "a b x"},
		{a.Release, "b x"},
		{func() error { a.Pin("x"); a.Pin("later"); return nil }, "b later x"},
		{b.Close, "later x"},
		{func() error { b.Pin("dead"); return b.Release() }, "later x"},
		{a.Close, ""},
	} {
		must(t, step.do())
		if got := pinned(t, c); got != step.want {
			t.Errorf("pinned are %q, not %q", got, step.want)
		}
	}
	others, err := c.OtherPins()
	if c.Pin("own"); err != nil || len(others) != 0 {
		t.Errorf("others pin %v, %v", others, err)
	}
	// Leases that have ended keep no collection away.
	must(t, c.Collect(t.Context(), func(*Collection) error { return nil }))
}

// TestCollectWhileOthersPin removes all that nobody has pinned, again and again, while
// several pin, look and go on: what one saw stays until it releases.
func TestCollectWhileOthersPin(t *testing.T) {
	root := folder(t)
	collector := open(t, root)
	ctx, stop := context.WithCancel(t.Context())
	var users, collecting sync.WaitGroup
	var removed atomic.Int32
	for u := range 4 {
		l := open(t, root)
		users.Go(func() {
			for i := 0; i < 200 || removed.Load() == 0 && i < 100_000; i++ { // the collector may come late
				name := fmt.Sprintf("%d-%d", u%2, i%50) // two share their things
				path := filepath.Join(root, "things", name)
				l.Pin(name)
				if _, err := os.Stat(path); err != nil {
					if err := l.WriteFile(path, nil); err != nil {
						t.Error(err)
					}
				}
				for range 3 {
					time.Sleep(100 * time.Microsecond)
					if _, err := os.Stat(path); err != nil {
						t.Errorf("what is pinned was removed: %v", err)
						return
					}
				}
				if i%20 == 19 {
					if err := l.Release(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	collecting.Go(func() {
		for ctx.Err() == nil {
			err := collector.Collect(ctx, func(c *Collection) error {
				things, err := os.ReadDir(filepath.Join(root, "things"))
				for _, e := range things {
					if !c.Pinned(e.Name()) {
						err = errors.Join(err, c.Move(filepath.Join(root, "things", e.Name())))
						removed.Add(1)
					}
				}
				return err
			})
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	users.Wait()
	stop()
	collecting.Wait()
	if removed.Load() == 0 {
		t.Error("nothing was ever removed")
	}
	if left, err := os.ReadDir(filepath.Join(root, TmpDir)); err != nil || len(left) > 0 {
		t.Errorf("%d files are left over, %v", len(left), err)
	}
}

// TestFullDisk proves that nothing is collected while somebody cannot write down what it
// uses.
func TestFullDisk(t *testing.T) {
	root := folder(t)
	l, other := open(t, root), open(t, root)
	full, err := files.LockFile(t.Context(), "/dev/full", files.Exclusive)
	if err != nil {
		t.Skip(err)
	}
	real := l.lock
	l.lock = full
	l.Pin("x")
	l.lock = real
	must(t, full.Release())
	if err := l.Collect(t.Context(), func(*Collection) error { return nil }); err == nil {
		t.Error("it collected although it could not say what it uses")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := other.Collect(ctx, func(*Collection) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another one collected: %v", err)
	}
	must(t, l.Release())
	must(t, other.Collect(t.Context(), func(*Collection) error { return nil }))
}

func TestReclaim(t *testing.T) {
	root := folder(t)
	l, dying := open(t, root), open(t, root)
	mine, err := l.TempDir(TmpDir)
	must(t, err)
	left, err := dying.TempDir(TmpDir)
	must(t, err)
	lock, err := dying.Lock(t.Context(), "thing")
	must(t, err)
	must(t, lock.Release()) // as if it had died
	for _, ended := range []bool{false, true} {
		if ended {
			must(t, dying.lock.Release())
		}
		must(t, l.Reclaim(t.Context(), TmpDir))
		if _, err := os.Stat(left); (err == nil) == ended {
			t.Errorf("of a lease that has ended (%t): %v", ended, err)
		}
		if _, err := os.Stat(mine); err != nil {
			t.Errorf("of a lease that lives: %v", err)
		}
	}
	locks, err := os.ReadDir(filepath.Join(root, LocksDir))
	must(t, err)
	if len(locks) != 1 || locks[0].Name() != l.Name() {
		t.Errorf("locks are left: %v", locks)
	}
}
