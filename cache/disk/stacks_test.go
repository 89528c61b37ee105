package disk

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/snapshot"
)

// chainOf stores the records of a chain of steps, each of which adds a layer.
func chainOf(t testing.TB, c *Cache, name string, n int) []cache.Key {
	t.Helper()
	var keys []cache.Key
	var stack snapshot.Stack
	for i := range n {
		step := fmt.Sprint(name, i)
		rec := cachetest.Record(step, step)
		stack = append(stack, rec.Outputs[0]...)
		rec.Outputs[0] = stack
		keys = append(keys, cachetest.Key(step))
		if err := c.Put(t.Context(), keys[i], rec); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// TestChainsShareLayers proves that of a chain's records only those layers are decoded that
// the record before does not have: reading a later one allocates as much as an early one.
func TestChainsShareLayers(t *testing.T) {
	c, _ := open(t, t.TempDir())
	keys := chainOf(t, c, "step", 400)
	get := func(key cache.Key) {
		if _, err := c.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range keys {
		get(k)
	}
	early := testing.AllocsPerRun(5, func() { get(keys[20]) })
	late := testing.AllocsPerRun(5, func() { get(keys[399]) })
	if late > early+20 {
		t.Errorf("%v allocations for the record of 400 layers, %v for that of 20", late, early)
	}
}

// TestSharedLayersAreTheSame reads records of chains that part and join in any order, and
// compares them with what a cache reads that knows nothing.
func TestSharedLayersAreTheSame(t *testing.T) {
	root := t.TempDir()
	c, _ := open(t, root)
	rnd := rand.New(rand.NewPCG(1, 2))
	var keys []cache.Key
	stacks := []snapshot.Stack{nil}
	for i := range 300 {
		step := fmt.Sprint("s", i)
		rec := cachetest.Record(step, step)
		below := stacks[rnd.IntN(len(stacks))]
		if rnd.IntN(3) > 0 {
			below = stacks[len(stacks)-1]
		}
		above := cachetest.Record(step, step).Outputs[0]
		for range rnd.IntN(12) {
			above = append(above, cachetest.Record(step, fmt.Sprint("l", rnd.IntN(9))).Outputs[0]...)
		}
		stacks = append(stacks, append(below[:len(below):len(below)], above...))
		rec.Outputs = append([]snapshot.Stack{stacks[len(stacks)-1]}, stacks[rnd.IntN(len(stacks))])
		keys = append(keys, cachetest.Key(step))
		if err := c.Put(t.Context(), cachetest.Key(step), rec); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		key := keys[rnd.IntN(len(keys))]
		got, err := c.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		fresh, _ := open(t, root)
		if want, err := fresh.Get(t.Context(), key); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %v\n%+v\nwant\n%+v", key, err, got, want)
		}
	}
}
