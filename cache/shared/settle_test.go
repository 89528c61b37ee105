package shared_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/snapshot"
)

// blobOf is the blob of a step's layer.
func blobOf(step string) shared.Blob {
	return shared.Blob{Descriptor: form(snapshot.Layer{DiffID: snapshot.DiffID(digest.FromString("diff " + step))})}
}

// TestMaxSize frees the space of what was not used for longest.
func TestMaxSize(t *testing.T) {
	place := &sharedtest.Memory{}
	limited := to(place, "", nil)
	newMachine().makes(t, limited, "one", "two", "three")
	n, size := place.Len()
	limited.MaxSize = size
	change(t, place, "", func(x index) {
		for i, name := range []string{"one", "two", "three"} {
			r := x.record(t, name)
			r["Used"] = r["Used"].(float64) - float64(10-i)
		}
	})
	newMachine().uses(t, from(place, nil), limited, "one")
	newMachine().makes(t, limited, "four")
	m := newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, nil)}, nil), "one", "two", "three", "four"); !slices.Equal(got, []string{"one", "three", "four"}) {
		t.Errorf("found %q", got)
	}
	if now, size := place.Len(); now != n || size > limited.MaxSize {
		t.Errorf("%d blobs of %d bytes, where %d are allowed", now, size, limited.MaxSize)
	}
	// Reset leaves what the build used alone.
	limited.Reset = true
	newMachine().makes(t, limited, "five")
	if now, _ := place.Len(); now != n/3 {
		t.Errorf("%d blobs after a reset", now)
	}
	// Another scope keeps what it names.
	newMachine().makes(t, to(place, "other", nil), "five", "six")
	newMachine().makes(t, limited, "seven")
	if missing, err := place.Missing(t.Context(), []shared.Blob{blobOf("five"), blobOf("six"), blobOf("seven")}); err != nil || len(missing) > 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
}

// TestRemovedMeanwhile has somebody else remove a blob that was found there, since no index
// named it yet: it is sent again.
func TestRemovedMeanwhile(t *testing.T) {
	place := &sharedtest.Memory{}
	b := blobOf("step")
	if err := place.Store(t.Context(), b, sharedtest.Content([]byte(digest.FromString("diff step")))); err != nil {
		t.Fatal(err)
	}
	removed := 0
	place.Fault = func(op string) error {
		if op == "replace" && removed == 0 {
			removed++
			return place.Remove(context.Background(), []shared.Blob{b})
		}
		return nil
	}
	newMachine().makes(t, to(place, "", nil), "step")
	if missing, err := place.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) > 0 || removed != 1 {
		t.Errorf("missing %v, %v, removed %d", missing, err, removed)
	}
}

// clumsy cannot remove, or says that it cannot.
type clumsy struct {
	*sharedtest.Memory
	err error
}

func (c clumsy) Remove(context.Context, []shared.Blob) error { return c.err }

func (c clumsy) Retire(context.Context, string) error { return c.err }

// TestCannotRemove exports all the same, and tells why space is not freed.
func TestCannotRemove(t *testing.T) {
	place := clumsy{&sharedtest.Memory{}, errors.New("it is forbidden")}
	limited := to(place, "", nil)
	newMachine().makes(t, limited, "one")
	_, limited.MaxSize = place.Len()
	limited.Strict = true
	m := newMachine()
	s := m.session(nil, []shared.Target{limited})
	if err := errors.Join(m.put(s, "two"), s.Finish(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(m.told, "\n"); strings.Count(text, "what is not needed any more stays") != 1 || !strings.Contains(text, "it is forbidden") {
		t.Errorf("told %q", m.told)
	}
}
