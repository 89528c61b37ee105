package azblob

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// Blobs that another name, another scope or BuildKit's manifest names stay.
func TestRemoveNamedElsewhere(t *testing.T) {
	f := &fake{}
	attrs := withKey(newFake(t, f)) + ",prefix=of test"
	p, other := open(t, quick, attrs, nil), open(t, quick, attrs+",name=deep/other", nil)
	var blobs []shared.Blob
	for i := range 12 {
		data := fmt.Append(nil, "blob", i)
		blobs = append(blobs, sharedtest.NewBlob(data))
		if err := p.Store(t.Context(), blobs[i], sharedtest.Content(data)); err != nil {
			t.Fatal(err)
		}
	}
	names := func(i int) []byte { return []byte(blobs[i].Digest) }
	if err := errors.Join(
		p.Replace(t.Context(), "", names(0), nil, ""), p.Replace(t.Context(), "main", names(1), nil, ""),
		other.Replace(t.Context(), "pull/1", names(2), nil, ""),
	); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.blobs["buildkit-cache/of test/manifests/of-buildkit"] = []byte(`{"layers":[{"blob":"` + string(blobs[3].Digest) + `"}]}`)
	f.mu.Unlock()
	for range 2 { // the second time they are gone
		if err := p.Remove(t.Context(), blobs); err != nil {
			t.Fatal(err)
		}
		missing, err := p.Missing(t.Context(), blobs)
		if err != nil || !slices.EqualFunc(missing, blobs[4:], func(a, b shared.Blob) bool { return a.Digest == b.Digest }) {
			t.Errorf("missing %v, %v", missing, err)
		}
	}
}

// What is named may not be known: then nothing is removed.
func TestRemoveForbidden(t *testing.T) {
	for _, what := range []string{"comp=list", "/manifests/"} {
		f := &fake{}
		p := open(t, quick, withKey(newFake(t, f)), nil)
		data := []byte("blob")
		b := sharedtest.NewBlob(data)
		if err := errors.Join(p.Store(t.Context(), b, sharedtest.Content(data)), p.Replace(t.Context(), "", []byte(b.Digest), nil, "")); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && strings.Contains(r.URL.RequestURI(), what) {
				refuse(w, r, http.StatusForbidden, "AuthorizationPermissionMismatch")
				return true
			}
			return false
		}
		f.mu.Unlock()
		if err := p.Remove(t.Context(), []shared.Blob{b}); err == nil || strings.Contains(err.Error(), testKey) {
			t.Errorf("%s: %v", what, err)
		}
		if missing, err := p.Missing(t.Context(), []shared.Blob{b}); err != nil || len(missing) > 0 {
			t.Errorf("%s: missing %v, %v", what, missing, err)
		}
	}
}
