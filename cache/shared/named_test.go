package shared_test

import (
	"slices"
	"testing"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// named is one of several places that are called the same.
type named struct {
	*sharedtest.Memory
	index string
}

// IndexName implements shared.Named.
func (n named) IndexName() string { return n.index }

// TestNamed imports from an index and exports to another of the same bucket: what the first has
// is news to the second, as are the lists of its layers.
func TestNamed(t *testing.T) {
	main, pr := named{&sharedtest.Memory{}, "main"}, named{&sharedtest.Memory{}, "pr"}
	newMachine().makes(t, to(main, "", nil), "one", "two")
	newMachine().uses(t, from(main, nil), to(pr, "", nil), "one", "two")
	m := newMachine()
	s := m.session([]shared.Source{from(pr, nil)}, nil)
	if got := m.finds(t, s, "one", "two"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("found %q: %q", got, m.told)
	}
	all, _ := main.Len()
	if n, _ := pr.Len(); n != all {
		t.Errorf("%d blobs, want %d", n, all)
	}
}
