package planner

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

func TestParseLayoutImage(t *testing.T) {
	sum := digest.FromString("x")
	for text, want := range map[string]LayoutImage{
		"oci-layout://dir":                                {Path: "dir"},
		"oci-layout:///a:b/dir":                           {Path: "/a:b/dir"},
		"oci-layout://dir:v7":                             {Path: "dir", Tag: "v7"},
		"oci-layout://dir@" + sum.String():                {Path: "dir", Digest: sum},
		"oci-layout://a/b.tar:v7@" + string(sum):          {Path: "a/b.tar", Tag: "v7", Digest: sum},
		"oci-layout://../a:v/b:with-1.2_x@" + string(sum): {Path: "../a:v/b", Tag: "with-1.2_x", Digest: sum},
	} {
		got, err := ParseLayoutImage(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %+v, %v; printed %s", text, got, err, got)
		}
	}
	if got, err := ParseLayoutImage("oci-layout://dir@sha256:12"); err == nil {
		t.Errorf("a digest that is none became %+v", got)
	}
}

// fakeLayouts finds an image of one layer in every layout.
type fakeLayouts struct {
	mu    sync.Mutex
	asked []LayoutImage // guarded by mu
}

func (f *fakeLayouts) ResolveLayout(_ context.Context, img LayoutImage, p ocispec.Platform) (*BaseImage, error) {
	f.mu.Lock()
	f.asked = append(f.asked, img)
	f.mu.Unlock()
	base := &BaseImage{Ref: img.String(), Layout: img.Path, Digest: digest.FromString(img.Ref()).String(), Platform: p}
	base.Config.Platform = p
	base.Config.Config.Env = []string{"FROM=layout"}
	base.Config.RootFS.DiffIDs = []digest.Digest{digest.FromString("layer")}
	return base, nil
}

// TestLayouts: a context that is in a layout is a base, and is copied from, with the
// layout's path as its source.
func TestLayouts(t *testing.T) {
	layouts := &fakeLayouts{}
	opts := Options{Layouts: layouts, BuildPlatform: linuxAmd64, Contexts: map[string]*NamedContext{
		"one": {Layout: &LayoutImage{Path: "dir", Tag: "v1"}},
		"two": {Layout: &LayoutImage{Path: "/other"}},
	}}
	file, err := parser.Parse("Dockerfile", []byte("FROM one\nCOPY --from=two a /a\nRUN --mount=from=one,target=/m x\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Build(t.Context(), file, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, s := range p.Graph.Steps {
		if src, ok := s.Op.(*dag.Source); ok && src.OCILayout != nil {
			found[src.OCILayout.Path] = src.OCILayout.Digest
		}
	}
	for path, ref := range map[string]string{"dir": "v1", "/other": ""} {
		if found[path] != digest.FromString(ref).String() {
			t.Errorf("source %s has digest %q", path, found[path])
		}
	}
	if len(found) != 2 || len(layouts.asked) != 2 {
		t.Errorf("sources %v, asked for %v", found, layouts.asked)
	}
	target := p.Targets[0]
	if target.Base == nil || target.Base.Ref != "oci-layout://dir:v1" || !strings.HasPrefix(target.Config.Config.Env[0], "FROM=") {
		t.Errorf("base %+v, config %+v", target.Base, target.Config.Config)
	}
	opts.Layouts = nil
	if _, err := Build(t.Context(), file, &fakeImages{}, opts); err == nil || !strings.Contains(err.Error(), "no image resolver") {
		t.Errorf("without a resolver: %v", err)
	}
}
