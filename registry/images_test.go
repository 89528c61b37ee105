package registry

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
)

func TestImagesNames(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	s := c.images
	a, b := testImage(t, c, "app", 10, 20), testImage(t, c, "other:1", 30)
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
		if _, err := s.ResolveLocal(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	if err := s.Tag(t.Context(), "app", "x@"+a.ID.String()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a digest as a name: %v", err)
	}
	infos, err := s.List()
	if err != nil || len(infos) != 2 {
		t.Fatalf("%v, %v", infos, err)
	}
	i := slices.IndexFunc(infos, func(i ImageInfo) bool { return i.ID == a.ID })
	if got := infos[i]; len(got.Names) != 2 || got.Platform.Architecture != "amd64" || got.Size != a.Stack[0].Size+a.Stack[1].Size || !got.Created.Equal(day) {
		t.Errorf("%+v", got)
	}
	held, err := s.Holdings()
	if err != nil || len(held) != 2 || len(held[0].Stack)+len(held[1].Stack) != 3 || len(held[0].Blobs) != 1 {
		t.Errorf("%+v, %v", held, err)
	}
	if steps, err := s.Steps(); err != nil || len(steps) == 0 {
		t.Errorf("%+v, %v", steps, err)
	}
}

func TestImagesRemove(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	s := c.images
	img := testImage(t, c, "app", 10)
	if err := s.Tag(t.Context(), "app", "app:2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(img.ID.String(), false); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("image with two names removed by id: %v", err)
	}
	r, err := s.Remove("app:2", false)
	if err != nil || len(r.Deleted) != 0 || !slices.Equal(r.Untagged, []string{"docker.io/library/app:2"}) {
		t.Errorf("%+v, %v", r, err)
	}
	// A name that moves leaves a dangling image, which has to be removed by id.
	moved := testImage(t, c, "app", 20)
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
	if _, err := s.Remove("app", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if infos, err = s.List(); err != nil || len(infos) != 0 {
		t.Errorf("%+v, %v", infos, err)
	}
}

func TestImagesAmbiguousPrefix(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	for _, hex := range []string{strings.Repeat("a", 64), "a" + strings.Repeat("b", 63)} {
		if err := os.WriteFile(filepath.Join(c.images.dir, "records", hex+".json"), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.images.ResolveLocal("a"); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("%v", err)
	}
}

func TestV1ImageByID(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 10, 20)
	chain, err := c.images.V1Chain(img.V1)
	if err != nil || len(chain) != 2 || chain[1].ID != chain[0].Parent {
		t.Fatalf("%+v, %v", chain, err)
	}
	step, err := c.images.ResolveLocal(chain[1].ID[:12])
	if err != nil || len(step.Stack) != 1 || step.V1 != chain[1].ID || len(step.Config.History) != 1 {
		t.Fatalf("%+v, %v", step, err)
	}
	if err := c.images.Tag(t.Context(), chain[1].ID, "first-step"); err != nil {
		t.Fatal(err)
	}
	tagged, err := c.images.ResolveLocal("first-step")
	if err != nil || tagged.ID != step.ID {
		t.Errorf("%+v, %v", tagged, err)
	}
	hist, err := c.images.History(img)
	if err != nil || len(hist) != 2 || hist[0].ID != img.ID.String() || hist[1].ID != chain[1].ID ||
		hist[0].CreatedBy != "COPY 1 /" || hist[0].Size != img.Stack[1].Size || hist[0].Tags[0] != "app:latest" {
		t.Errorf("%+v, %v", hist, err)
	}
	in, err := c.images.Inspect(img)
	if err != nil || in.ID != img.ID.String() || in.RepoTags[0] != "app:latest" || len(in.RootFS.Layers) != 2 ||
		in.Parent != "sha256:"+chain[1].ID || in.Size != img.Stack[0].Size+img.Stack[1].Size {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestImagesReclaim(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	left := writeFileT(t, filepath.Join(c.images.dir, "tmp", "123"), "half a rec", 0o644)
	if _, err := OpenImages(c.store); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// Several processes share the files; here several Images that know nothing of
// each other.
func TestImagesConcurrently(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 10)
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob"), Size: 4}
	var wg sync.WaitGroup
	for i := range 8 {
		other, err := OpenImages(c.store)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for j := range 5 {
				if err := other.Tag(t.Context(), "app", fmt.Sprintf("app:%d-%d", i, j)); err != nil {
					t.Error(err)
				}
				if err := other.addOrigin(img.Stack[0].DiffID, blob, fmt.Sprintf("r.example/%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := c.images.ResolveLocal("app")
	if err != nil || len(got.Names) != 41 {
		t.Errorf("%d names, want 41 (%v)", len(got.Names), err)
	}
	o, err := c.images.origin(img.Stack[0].DiffID)
	if err != nil || len(o.Repositories) != 8 {
		t.Errorf("%+v, %v", o, err)
	}
	left, err := filepath.Glob(filepath.Join(c.images.dir, "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
