package oci

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	fake "github.com/google/go-containerregistry/pkg/registry"

	"layered.build/builder/cache/shared"
	"layered.build/builder/registry/export/exporttest"
)

// What somebody else has written since an index was read is not overwritten, although
// registries know no conditions.
func TestOverwrite(t *testing.T) {
	srv := httptest.NewServer(fake.New(fake.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	place := func() *Registry {
		p, err := NewRegistry(exporttest.NewClient(t), attrs(t, "type=registry,ref="+strings.TrimPrefix(srv.URL, "http://")+"/app:cache"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	one, other := place(), place()
	if err := one.Replace(t.Context(), "", []byte("one"), nil, ""); err != nil {
		t.Fatal(err)
	}
	_, version, err := one.Index(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"", "sha256:other"} {
		if err := other.Replace(t.Context(), "", []byte("other"), nil, old); !errors.Is(err, shared.ErrConflict) {
			t.Errorf("version %q: %v", old, err)
		}
	}
	if err := other.Replace(t.Context(), "", []byte("two"), nil, version); err != nil {
		t.Fatal(err)
	}
	if err := one.Replace(t.Context(), "", []byte("three"), nil, version); !errors.Is(err, shared.ErrConflict) {
		t.Errorf("there is a later one: %v", err)
	}
	if got, _, err := one.Index(t.Context(), ""); err != nil || string(got) != "two" {
		t.Errorf("got %q, %v", got, err)
	}
}
