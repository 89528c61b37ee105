package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lockNow(t *testing.T, path string, how Mode) *Lock {
	t.Helper()
	l, err := TryLockFile(path, how)
	must(t, err)
	return l
}

func TestLockModes(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lock")
	a := lockNow(t, p, Shared)
	b := lockNow(t, p, Shared)
	if _, err := TryLockFile(p, Exclusive); !errors.Is(err, ErrLocked) {
		t.Fatalf("exclusive beside shared: %v", err)
	}
	if IsLocked(p, Shared) || !IsLocked(p, Exclusive) {
		t.Error("a shared lock is taken for an exclusive one, or for none")
	}
	must(t, errors.Join(a.Release(), a.Release(), b.Release()))
	x := lockNow(t, p, Exclusive)
	if _, err := TryLockFile(p, Shared); !errors.Is(err, ErrLocked) {
		t.Fatalf("shared beside exclusive: %v", err)
	}
	if !IsLocked(p, Shared) {
		t.Error("an exclusive lock is not seen")
	}
	must(t, x.Release())
	if IsLocked(p, Exclusive) {
		t.Error("a lock outlives its release")
	}
}

func TestLockExisting(t *testing.T) {
	p := filepath.Join(t.TempDir(), "folder")
	if _, err := LockExisting(t.Context(), p, Shared); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no folder: %v", err)
	}
	must(t, os.Mkdir(p, 0o700))
	l, err := TryLockExisting(p, Exclusive)
	must(t, err)
	ended := make(chan error)
	go func() {
		_, err := LockExisting(t.Context(), p, Exclusive)
		ended <- err
	}()
	must(t, os.Remove(p))
	must(t, l.Release())
	if err := <-ended; !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the folder was removed while its lock was waited for: %v", err)
	}
}

func TestLockFileEndsWithContext(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lock")
	l := lockNow(t, p, Exclusive)
	defer l.Release()
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(5*time.Millisecond, func() { cancel(gone) })
	if _, err := LockFile(ctx, p, Exclusive); err != gone {
		t.Fatalf("got %v", err)
	}
}

// Many take and remove one lock: at no time do two have it.
func TestRemoveExcludes(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lock")
	for _, ctx := range []context.Context{t.Context(), context.Background()} {
		var inside atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					l, err := LockFile(ctx, p, Exclusive)
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d have the lock", n)
					}
					inside.Add(-1)
					if err := l.Remove(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock file is left: %v", err)
	}
}

func TestNilLock(t *testing.T) {
	var l *Lock
	must(t, errors.Join(l.Release(), l.Remove()))
}

func TestTurns(t *testing.T) {
	var turns Turns
	release, err := turns.Take(t.Context(), "a")
	must(t, err)
	other, err := turns.Take(t.Context(), "b")
	must(t, err)
	other()

	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	wait := func(n int) {
		turns.mu.Lock()
		defer turns.mu.Unlock()
		if got := len(turns.waiting["a"]); got != n {
			t.Fatalf("%d wait, not %d", got, n)
		}
	}
	gone := errors.New("gone")
	leaving, leave := context.WithCancelCause(t.Context())
	left := make(chan error)
	for i := range 5 {
		ctx := t.Context()
		if i == 2 {
			ctx = leaving
		}
		wg.Go(func() {
			release, err := turns.Take(ctx, "a")
			if i == 2 {
				left <- err
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			release()
		})
		for queued := false; !queued; { // one after the other
			turns.mu.Lock()
			queued = len(turns.waiting["a"]) == i+1
			turns.mu.Unlock()
		}
	}
	leave(gone)
	if err := <-left; err != gone {
		t.Errorf("left the queue with %v", err)
	}
	wait(4)
	release()
	wg.Wait()
	for i, want := range []int{0, 1, 3, 4} {
		if len(order) != 4 || order[i] != want {
			t.Fatalf("the turns came in the order %v", order)
		}
	}
	if len(turns.waiting) != 0 {
		t.Errorf("names are left: %v", turns.waiting)
	}
}

// One whose turn comes as it leaves passes it on.
func TestTurnsLeave(t *testing.T) {
	var turns Turns
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*10*time.Microsecond)
				defer cancel()
			}
			if release, err := turns.Take(ctx, "a"); err == nil {
				release()
			}
		})
	}
	wg.Wait()
	if len(turns.waiting) != 0 {
		t.Errorf("names are left: %v", turns.waiting)
	}
}
