package oci

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	fake "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/registry/export/exporttest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func attrs(t *testing.T, text string) *shared.Attrs {
	t.Helper()
	a, err := shared.ParseAttrs(text)
	if err != nil {
		t.Fatal(err)
	}
	a.Kind()
	return a
}

func TestRegistry(t *testing.T) {
	for _, extra := range []string{"", ",image-manifest=false", ",oci-mediatypes=false"} {
		t.Run(strings.TrimPrefix(extra, ","), func(t *testing.T) {
			sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
				srv := httptest.NewServer(fake.New(fake.Logger(log.New(io.Discard, "", 0))))
				t.Cleanup(srv.Close)
				host := strings.TrimPrefix(srv.URL, "http://")
				return func() shared.Backend {
					r, err := NewRegistry(exporttest.NewClient(t), attrs(t, "type=registry,ref="+host+"/app:cache"+extra))
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
			})
		})
	}
}

func TestLocal(t *testing.T) {
	sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
		dir := filepath.Join(t.TempDir(), "cache")
		return func() shared.Backend {
			l, err := NewLocal(attrs(t, "type=local,dest="+dir), true)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
	})
}

// What somebody else keeps under the name is told by name, and is no cache.
func TestOthers(t *testing.T) {
	for _, c := range []struct{ manifest, want string }{
		{`{"config":{"mediaType":"application/vnd.buildkit.cacheconfig.v0"},"layers":[]}`, "BuildKit"},
		{`{"manifests":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip"},{"mediaType":"application/vnd.buildkit.cacheconfig.v0"}]}`, "BuildKit"},
		{`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip"}]}`, "not a cache"},
		{`<html>`, "no manifest"},
	} {
		if d, err := indexOf([]byte(c.manifest)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.manifest, d, err)
		}
	}
}

// Different scopes never have one tag, and tags are those that registries take.
func TestTags(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("long", 100)
	for _, scope := range []string{"", "a", "A", "a/b", "a-b", "a b", "ü", "ö", long, long + "er", "-", "."} {
		tag := tagOf("cache", scope)
		if was, ok := seen[tag]; ok {
			t.Errorf("%q and %q have the tag %s", was, scope, tag)
		}
		seen[tag] = scope
		if len(tag) > 128 || unfit().MatchString(tag) {
			t.Errorf("%q: %s", scope, tag)
		}
	}
}

// A place that does not answer, or refuses, is an error that says where.
func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(nil)
	host := strings.TrimPrefix(srv.URL, "http://")
	srv.Close()
	r, err := NewRegistry(exporttest.NewClient(t), attrs(t, "type=registry,ref="+host+"/app:cache"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Index(context.Background(), ""); err == nil || !strings.Contains(err.Error(), host) {
		t.Error(err)
	}
}

// Folders with other tags, or one of whose indexes is read, are not the same.
func TestIndexName(t *testing.T) {
	dir := t.TempDir()
	names := map[string]bool{}
	for _, more := range []string{"", ",tag=pr", ",digest=" + string(digest.FromString("x"))} {
		l, err := NewLocal(attrs(t, "type=local,src="+dir+more), false)
		if err != nil {
			t.Fatal(err)
		}
		names[l.IndexName()] = true
	}
	if len(names) != 3 {
		t.Errorf("names %v", names)
	}
}
