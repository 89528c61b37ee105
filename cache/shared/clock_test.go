package shared_test

import (
	"slices"
	"testing"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// TestClocks has machines write one scope whose clocks are off by a day: all is found and
// stays signed, and the index is not written again and again.
func TestClocks(t *testing.T) {
	k := newPair(t)
	place := &sharedtest.Memory{}
	const day = 24 * time.Hour
	for name, off := range map[string]time.Duration{"ahead": day, "right": 0, "behind": -day} {
		m := newMachine()
		m.later = off
		m.makes(t, to(place, "main", k.signer), name, "common")
		change(t, place, "main", func(x index) { // it counts days by its own clock
			for _, step := range []string{name, "common"} {
				r := x.record(t, step)
				r["Used"] = r["Used"].(float64) + float64(off/day)
			}
		})
	}
	steps := []string{"ahead", "right", "behind", "common"}
	written := 0
	place.Fault = func(op string) error {
		if op == "replace" {
			written++
		}
		return nil
	}
	for range 3 {
		newMachine().uses(t, from(place, k.keys, "main"), to(place, "main", k.signer), steps...)
	}
	if written > 1 {
		t.Errorf("the index was written %d times, although nothing was new", written)
	}
	m := newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys, "main")}, nil), steps...); !slices.Equal(got, steps) {
		t.Errorf("found %q, told %q", got, m.told)
	}
}
