package shared_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	// That a place never can is no news.
	never := clumsy{&sharedtest.Memory{}, fmt.Errorf("it deletes no manifests: %w", errors.ErrUnsupported)}
	limited = to(never, "", nil)
	limited.MaxSize = 1000
	newMachine().makes(t, limited, "one")
	limited.Reset = true
	newMachine().makes(t, limited, "two")
}

// TestMaxSizeLeavesNothing removes what was sent in vain: there was no room for it, or the
// index could not be written; and what an index named that is damaged.
func TestMaxSizeLeavesNothing(t *testing.T) {
	place := &sharedtest.Memory{}
	limited := to(place, "", nil)
	newMachine().makes(t, limited, "one")
	n, size := place.Len()
	limited.MaxSize = size
	for range 2 {
		newMachine().makes(t, limited, "two", "three", "four")
		if now, size := place.Len(); now != n || size > limited.MaxSize {
			t.Fatalf("%d blobs of %d bytes, where %d are allowed", now, size, limited.MaxSize)
		}
	}
	place.Fault = func(op string) error {
		if op == "replace" {
			return errors.New("it is forbidden")
		}
		return nil
	}
	m := newMachine()
	s := m.session(nil, []shared.Target{limited})
	if err := errors.Join(m.put(s, "five"), s.Finish(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	m.wasTold(t, "it is forbidden")
	if now, _ := place.Len(); now != n {
		t.Errorf("%d blobs after an export that failed", now)
	}
	place.Fault = nil
	change(t, place, "", func(x index) { x["Version"] = 0 })
	s = m.session(nil, []shared.Target{limited})
	if err := errors.Join(m.put(s, "six"), s.Finish(t.Context(), nil)); err != nil {
		t.Fatal(err)
	}
	m.wasTold(t, "begun anew")
	if now, _ := place.Len(); now != n {
		t.Errorf("%d blobs after an index was begun anew", now)
	}
}

// TestMountRemovedMeanwhile has somebody else remove what a mount is in before an index names
// it: it is sent again, whether it was found there or stored.
func TestMountRemovedMeanwhile(t *testing.T) {
	for _, stored := range []bool{false, true} {
		place := &sharedtest.Memory{}
		b := shared.MountBlob{Type: shared.MountManifest, Digest: digest.FromString("text"), Size: 4}
		blob := shared.Blob{Descriptor: ocispec.Descriptor{MediaType: b.Type, Digest: b.Digest, Size: b.Size}}
		if stored {
			if err := place.Store(t.Context(), blob, sharedtest.Content([]byte("text"))); err != nil {
				t.Fatal(err)
			}
		}
		removed := false
		place.Fault = func(op string) error {
			if op == "replace" && !removed {
				removed = true
				return place.Remove(context.Background(), []shared.Blob{blob})
			}
			return nil
		}
		export(t, place, shared.To{Mounts: all}, &sender{texts: map[string]string{"m": "text"}})
		if missing, err := place.Missing(t.Context(), []shared.Blob{blob}); err != nil || len(missing) > 0 || !removed {
			t.Errorf("stored before %t: missing %v, %v", stored, missing, err)
		}
	}
}
