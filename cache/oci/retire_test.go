package oci

import (
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	fake "github.com/google/go-containerregistry/pkg/registry"

	"layered.build/builder/registry/export/exporttest"
)

// The manifest that an index was in is deleted when another took its place, unless it has
// another tag, or that cannot be known.
func TestRetire(t *testing.T) {
	for name, c := range map[string]struct {
		scope   string // the manifest's other tag
		refuse  string // method and a part of the path
		status  int
		deleted bool
		want    string
	}{
		"deleted":      {deleted: true},
		"other tag":    {scope: "copy"},
		"not allowed":  {refuse: "DELETE /manifests/", status: 405, want: "deletes no manifests"},
		"denied":       {refuse: "DELETE /manifests/", status: 403, want: "delete manifest"},
		"no tags":      {refuse: "GET /tags/", status: 404, want: "list tags"},
		"untold":       {refuse: "HEAD /manifests/", status: 404, want: "does not tell"},
		"gone already": {refuse: "DELETE /manifests/", status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			registry := fake.New(fake.Logger(log.New(io.Discard, "", 0)))
			var deleted []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				method, part, _ := strings.Cut(c.refuse, " ")
				if c.refuse != "" && r.Method == method && strings.Contains(r.URL.Path, part) {
					w.WriteHeader(c.status)
					return
				}
				if r.Method == http.MethodDelete {
					deleted = append(deleted, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
				}
				registry.ServeHTTP(w, r)
			}))
			defer srv.Close()
			p, err := NewRegistry(exporttest.NewClient(t), attrs(t, "type=registry,ref="+strings.TrimPrefix(srv.URL, "http://")+"/app:cache"))
			if err != nil {
				t.Fatal(err)
			}
			put := func(scope, data string) string {
				t.Helper()
				_, version, err := p.Index(t.Context(), scope)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
				if err := p.Replace(t.Context(), scope, []byte(data), nil, version); err != nil {
					t.Fatal(err)
				}
				_, version, err = p.Index(t.Context(), scope)
				if err != nil {
					t.Fatal(err)
				}
				return version
			}
			old := put("", "old")
			if c.scope != "" && put(c.scope, "old") != old {
				t.Fatal("the same index is another manifest")
			}
			put("", "new")
			err = p.Retire(t.Context(), old)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
			if slices.Equal(deleted, []string{old}) != c.deleted || len(deleted) > 1 {
				t.Errorf("deleted %q", deleted)
			}
			if got, _, err := p.Index(t.Context(), ""); err != nil || string(got) != "new" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
