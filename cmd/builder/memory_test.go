package main

import (
	"runtime"
	"testing"
	"time"

	"layered.build/builder/fixtures"
)

func TestHeadroom(t *testing.T) {
	var set []int64
	h := &headroom{limit: 100, set: func(n int64) { set = append(set, n) }}
	for _, live := range []int64{10, 75, 90, 60, 300} {
		h.use(live)
	}
	if len(set) != 2 || set[0] != 120 || set[1] != 400 {
		t.Errorf("the limit was set to %v, want 120 and 400", set)
	}
}

// TestHeadroomSeesCollections: it is told of every collection, not only of the first.
func TestHeadroomSeesCollections(t *testing.T) {
	told := make(chan int64, 8)
	h := &headroom{set: func(n int64) { told <- n }}
	runtime.SetFinalizer(h, (*headroom).collected)
	h = nil
	var keep [][]byte
	for range 2 {
		keep = append(keep, make([]byte, 32<<20)) // more than before, so that the limit rises
		runtime.GC()
		select {
		case n := <-told:
			if n < int64(len(keep))*32<<20 {
				t.Errorf("the limit is %d with %d MiB in use", n, 32*len(keep))
			}
		case <-time.After(fixtures.Patience):
			t.Fatal("not told of a collection")
		}
		for len(told) > 0 {
			<-told
		}
	}
	runtime.KeepAlive(keep)
}
