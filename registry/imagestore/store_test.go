package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/assemble"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/snapshot"
)

func TestImagesNames(t *testing.T) {
	s := open(t)
	a, b := testImage(t, s, "app", 10, 20), testImage(t, s, "other:1", 30)
	if err := s.Tag(t.Context(), "app", "example.com/team/app:v2"); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]digest.Digest{
		"app": a.ID, "docker.io/library/app:latest": a.ID, "example.com/team/app:v2": a.ID, "other:1": b.ID,
		a.ID.String(): a.ID, a.ID.Encoded(): a.ID, a.ID.Encoded()[:12]: a.ID, "sha256:" + b.ID.Encoded()[:12]: b.ID,
	} {
		img, err := s.ResolveLocal(ref)
		if err != nil || img.ID != want {
			t.Errorf("%s: %v, %v", ref, img, err)
		}
	}
	for _, ref := range []string{"none", "other", "app@" + a.ID.String(), strings.Repeat("0", 64), ""} {
		if _, err := s.ResolveLocal(ref); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if err := s.Tag(t.Context(), "app", "x@"+a.ID.String()); !errors.Is(err, errdef.ErrInvalid) {
		t.Errorf("a digest as a name: %v", err)
	}
	infos, err := s.List()
	if err != nil || len(infos) != 2 {
		t.Fatalf("%v, %v", infos, err)
	}
	i := slices.IndexFunc(infos, func(i Info) bool { return i.ID == a.ID })
	if got := infos[i]; len(got.Names) != 2 || got.Platform.Architecture != "amd64" || got.Size != a.Stack[0].Size+a.Stack[1].Size || !got.Created.Equal(day) {
		t.Errorf("%+v", got)
	}
	held, err := s.holdings()
	if err != nil || len(held) != 2 || len(held[0].Stack)+len(held[1].Stack) != 3 || len(held[0].Blobs) != 1 {
		t.Errorf("%+v, %v", held, err)
	}
	if steps, err := s.steps(); err != nil || len(steps) == 0 {
		t.Errorf("%+v, %v", steps, err)
	}
}

// TestUnfetchedSize proves that what a manifest says of a layer that was never fetched
// counts.
func TestUnfetchedSize(t *testing.T) {
	s := open(t)
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob"), Size: 12345}
	diff := snapshot.DiffID(digest.FromString("tar"))
	if err := s.AddOrigin(diff, blob, "docker.io/library/x"); err != nil {
		t.Fatal(err)
	}
	l, err := s.layers.AddLazy(nil, snapshot.LazyLayer{DiffID: diff, Blob: blob})
	if err != nil {
		t.Fatal(err)
	}
	in := assemble.Input{Stack: snapshot.Stack{l}, Steps: []assemble.Step{{CreatedBy: "FROM", Stack: snapshot.Stack{l}}}}
	in.Config.Platform = amd64
	img, err := assemble.Image(in)
	if err == nil {
		err = s.Put(t.Context(), img, "x")
	}
	if err != nil {
		t.Fatal(err)
	}
	infos, err := s.List()
	if err != nil || len(infos) != 1 || infos[0].Size != blob.Size {
		t.Errorf("listed as %+v, %v", infos, err)
	}
	if got, err := s.Inspect(img); err != nil || got.Size != blob.Size {
		t.Errorf("inspected as %+v, %v", got, err)
	}
	if got, err := s.History(img); err != nil || len(got) != 1 || got[0].Size != blob.Size {
		t.Errorf("history is %+v, %v", got, err)
	}
}

func TestImagesRemove(t *testing.T) {
	s := open(t)
	img := testImage(t, s, "app", 10)
	if err := s.Tag(t.Context(), "app", "app:2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(img.ID.String(), false); !errors.Is(err, errdef.ErrAmbiguous) {
		t.Errorf("image with two names removed by id: %v", err)
	}
	r, err := s.Remove("app:2", false)
	if err != nil || len(r.Deleted) != 0 || !slices.Equal(r.Untagged, []string{"docker.io/library/app:2"}) {
		t.Errorf("%+v, %v", r, err)
	}
	// A name that moves leaves a dangling image, which has to be removed by id.
	moved := testImage(t, s, "app", 20)
	infos, err := s.List()
	if err != nil || len(infos) != 2 || len(infos[0].Names)+len(infos[1].Names) != 1 {
		t.Fatalf("%+v, %v", infos, err)
	}
	if r, err = s.Remove(img.ID.Encoded()[:10], false); err != nil || !slices.Equal(r.Deleted, []digest.Digest{img.ID}) || len(r.Untagged) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = s.Remove("app", false); err != nil || !slices.Equal(r.Deleted, []digest.Digest{moved.ID}) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.Remove("app", true); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if infos, err = s.List(); err != nil || len(infos) != 0 {
		t.Errorf("%+v, %v", infos, err)
	}
}

func TestImagesAmbiguousPrefix(t *testing.T) {
	s := open(t)
	for _, hex := range []string{strings.Repeat("a", 64), "a" + strings.Repeat("b", 63)} {
		if err := os.WriteFile(filepath.Join(s.dir, "records", hex+".json"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.ResolveLocal("a"); !errors.Is(err, errdef.ErrAmbiguous) {
		t.Errorf("%v", err)
	}
}

func TestV1ImageByID(t *testing.T) {
	s := open(t)
	img := testImage(t, s, "app", 10, 20)
	chain, err := s.V1Chain(img.V1)
	if err != nil || len(chain) != 2 || chain[1].ID != chain[0].Parent {
		t.Fatalf("%+v, %v", chain, err)
	}
	step, err := s.ResolveLocal(chain[1].ID[:12])
	if err != nil || len(step.Stack) != 1 || step.V1 != chain[1].ID || len(step.Config.History) != 1 {
		t.Fatalf("%+v, %v", step, err)
	}
	if err := s.Tag(t.Context(), chain[1].ID, "first-step"); err != nil {
		t.Fatal(err)
	}
	tagged, err := s.ResolveLocal("first-step")
	if err != nil || tagged.ID != step.ID {
		t.Errorf("%+v, %v", tagged, err)
	}
	hist, err := s.History(img)
	if err != nil || len(hist) != 2 || hist[0].ID != img.ID.String() || hist[1].ID != chain[1].ID ||
		hist[0].CreatedBy != "COPY 1 /" || hist[0].Size != img.Stack[1].Size || hist[0].Tags[0] != "app:latest" {
		t.Errorf("%+v, %v", hist, err)
	}
	in, err := s.Inspect(img)
	if err != nil || in.ID != img.ID.String() || in.RepoTags[0] != "app:latest" || len(in.RootFS.Layers) != 2 ||
		in.Parent != "sha256:"+chain[1].ID || in.Size != img.Stack[0].Size+img.Stack[1].Size {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestImagesReclaim(t *testing.T) {
	s := open(t)
	left := filepath.Join(s.dir, "tmp", "123")
	if err := os.WriteFile(left, []byte("half a rec"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.layers); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// Several processes share the files; here several Stores that know nothing of
// each other.
func TestImagesConcurrently(t *testing.T) {
	s := open(t)
	img := testImage(t, s, "app", 10)
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob"), Size: 4}
	var wg sync.WaitGroup
	for i := range 8 {
		other, err := Open(s.layers)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for j := range 5 {
				if err := other.Tag(t.Context(), "app", fmt.Sprintf("app:%d-%d", i, j)); err != nil {
					t.Error(err)
				}
				if err := other.AddOrigin(img.Stack[0].DiffID, blob, fmt.Sprintf("r.example/%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.ResolveLocal("app")
	if err != nil || len(got.Names) != 41 {
		t.Errorf("%d names, want 41 (%v)", len(got.Names), err)
	}
	o, err := s.Origin(img.Stack[0].DiffID)
	if err != nil || len(o.Repositories) != 8 {
		t.Errorf("%+v, %v", o, err)
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestIndexNames(t *testing.T) {
	s := open(t)
	x := testIndex(t, s)
	if err := s.PutIndex(t.Context(), x, "multi"); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[*ocispec.Platform]digest.Digest{&amd64: x.Images[0].ID, &arm64: x.Images[1].ID} {
		img, err := s.ResolvePlatform("multi", *p)
		if err != nil || img.ID != want || !slices.Equal(img.Names, []string{"docker.io/library/multi:latest"}) {
			t.Errorf("%s: %+v, %v", p.Architecture, img, err)
		}
	}
	if _, err := s.ResolvePlatform("multi", armv7); !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
		t.Errorf("a platform that it lacks: %v", err)
	}
	if err := s.Tag(t.Context(), "multi", "copy:1"); err != nil {
		t.Fatal(err)
	}
	got, err := s.ResolveIndex("copy:1")
	if err != nil || len(got.Images) != 2 || got.Images[1].ID != x.Images[1].ID {
		t.Fatalf("tagged: %+v, %v", got, err)
	}
	if r, err := s.Remove("multi", false); err != nil || len(r.Deleted) != 0 {
		t.Errorf("the first name: %+v, %v", r, err)
	}
	if r, err := s.Remove("copy:1", false); err != nil || len(r.Deleted) != 2 {
		t.Errorf("the last name: %+v, %v", r, err)
	}
	if _, err := s.ResolveLocal(x.Images[1].ID.String()); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("after the last name: %v", err)
	}
}
