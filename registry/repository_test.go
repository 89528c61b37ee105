package registry

import (
	"errors"
	"sync"
	"testing"

	"layered.build/builder/snapshot"
)

// A layer that an image and something else bring to one repository at once is compressed
// and sent once.
func TestLayerOfTwoIsSentOnce(t *testing.T) {
	reg := newTestRegistry(t)
	c := newTestClient(t, Options{})
	img := testImage(t, c, "one", 1<<20, 2<<20)
	repo, err := c.Repository(reg.host+"/two/app:cache", PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reg.take()
	var wg sync.WaitGroup
	for i := range img.Stack {
		wg.Go(func() {
			desc, err := repo.SendLayer(t.Context(), img.Stack[:i+1])
			if err != nil {
				t.Error(err)
				return
			}
			if there, err := repo.Has(t.Context(), desc); err != nil || !there {
				t.Errorf("layer %d: %v, %v", i, there, err)
			}
		})
	}
	wg.Go(func() { mustPush(t, c, reg.host+"/two/app:1", img) })
	wg.Wait()
	if n := count(reg.take(), "POST", "/blobs/uploads/"); n != len(img.Stack)+1 { // and the configuration
		t.Errorf("%d uploads of %d layers", n, len(img.Stack))
	}
	if _, _, err := repo.Manifest(t.Context(), "nosuch"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
	if known, ok := c.KnownForm(img.Stack[0]); !ok || known.Digest == "" {
		t.Errorf("the form of a layer that was sent: %v", known)
	}
	if _, ok := c.KnownForm(snapshot.Layer{}); ok {
		t.Error("a layer that nobody knows has a form")
	}
}
