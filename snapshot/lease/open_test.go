package lease

import (
	"sync"
	"sync/atomic"
	"testing"
)

// A process that reclaims tries every lock file, also one that another process
// has just made and not locked yet.
func TestOpenWhileOthersReclaim(t *testing.T) {
	root := folder(t)
	first := open(t, root)
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !done.Load() {
				if err := first.reclaimLocks(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2000 {
		s, err := Open(root)
		if err != nil {
			t.Error(err)
			break
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	wg.Wait()
}
