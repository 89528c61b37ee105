package registry

import (
	"slices"
	"testing"
)

// TestResolveAsksOnce checks that a registry that wants no login is asked for the
// manifest at once, and never for more than it has to send.
func TestResolveAsksOnce(t *testing.T) {
	reg, _, _, desc := pushed(t)
	c := newTestClient(t, quick)
	reg.take()
	for _, want := range [][]string{
		{"GET /v2/app/manifests/latest", "GET /v2/app/blobs/"}, // with the configuration
		{"GET /v2/app/manifests/latest"},
	} {
		got, err := c.Resolve(t.Context(), reg.host+"/app", amd64)
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest() != desc.Digest {
			t.Errorf("resolved %s, want %s", got.Digest(), desc.Digest)
		}
		asked := reg.take()
		for i, q := range asked {
			if i < len(want) && len(q) > len(want[i]) {
				asked[i] = q[:len(want[i])]
			}
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
	}
}

// TestRefusedOnce checks that a registry that wants a login nobody has is asked once.
func TestRefusedOnce(t *testing.T) {
	isolate(t)
	reg := authServer(t, false)
	c := newTestClient(t, quick)
	if _, err := c.Resolve(t.Context(), reg.host+"/app", amd64); err == nil {
		t.Fatal("resolved without credentials")
	}
	if got := reg.take(); count(got, "GET", "/v2/app/manifests/latest") != 1 || len(got) != 1 {
		t.Errorf("asked %q, want the manifest once", got)
	}
}
