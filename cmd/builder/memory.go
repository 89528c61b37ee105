package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// memoryLimit is where the garbage collector begins to work harder rather than let
// the process grow: large transfers must not need more memory than small ones.
const memoryLimit = 100 << 20

// collectAt is by how many percent of what it holds the heap may grow, below the
// limit, before it is collected. Most builds end before that.
const collectAt = 400

// limitMemory sets the limits of the garbage collector, unless the environment does.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(memoryLimit)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt) // the limit holds all the same
	}
	h := &headroom{limit: memoryLimit, set: func(n int64) { debug.SetMemoryLimit(n) }}
	runtime.SetFinalizer(h, (*headroom).collected)
}

// headroom raises the limit of memory where what is in use comes near it, as with a
// context of several hundred thousand files: below the limit, the collector would run
// all the time and find nothing. It is a finalizer's object, which lives from one
// collection to the next.
type headroom struct {
	limit int64
	set   func(int64)
}

func (h *headroom) collected() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	h.use(int64(live[0].Value.Uint64()))
	runtime.SetFinalizer(h, (*headroom).collected)
}

// use leaves a third of what is in use free.
func (h *headroom) use(live int64) {
	if want := live + live/3; want > h.limit {
		h.limit = want
		h.set(want)
	}
}
