package registry

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"layered.build/builder/snapshot"
)

// tapped makes an image of one layer of 2 MiB, which is sent to ref while it is made.
func tapped(t *testing.T, c *Client, ref string) *Image { return tappedOf(t, c, ref, 2<<20) }

func tappedOf(t *testing.T, c *Client, ref string, size int) *Image {
	t.Helper()
	tap := c.TapLayer(t.Context(), ref, nil, PushOptions{})
	if tap == nil {
		t.Fatal("no tap")
	}
	noise := string(testTar(t, "noise", size))
	l, err := c.store.WriteLayer(t.Context(), nil, []snapshot.Change{{
		Entry: snapshot.Entry{Path: "f", Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(noise)), ModTime: day},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(noise)), nil },
	}}, snapshot.WriteOptions{Tap: tap})
	if err != nil {
		t.Fatal(err)
	}
	in := AssembleInput{Config: testConfig(), Stack: snapshot.Stack{l}}
	in.Steps = []AssembleStep{{CreatedBy: "COPY f /", Stack: in.Stack, Config: in.Config}}
	img, err := Assemble(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.images.Put(t.Context(), img, "app"); err != nil {
		t.Fatal(err)
	}
	img.Names = []string{mustRef(t, "app").String()}
	return img
}

// TestTappedLayerIsSentOnce: a layer that is sent while it is made is not sent, and not
// compressed, again.
func TestTappedLayerIsSentOnce(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	// However far the upload is behind, too little is left to ask whether it is needed.
	img := tappedOf(t, c, reg.host+"/app", worthAsking)
	desc, ok := c.store.Blob(img.Stack[0])
	if !ok || !c.store.Blobs().Has(desc.Digest) {
		t.Fatalf("the layer's blob is not in the store: %v %v", desc, ok)
	}
	mustPush(t, c, reg.host+"/app", img)
	asked := reg.take()
	if n := count(asked, "PATCH", ""); n != 2 {
		t.Errorf("%d blobs sent, want the layer and the configuration: %q", n, asked)
	}
	if n := count(asked, "HEAD", desc.Digest.String()); n != 0 {
		t.Errorf("asked %d times for what has just been sent", n)
	}
	b := newTestClient(t, quick)
	sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))

	again := newTestClient(t, quick) // the form is the one that is made of a layer that is there
	other := testImageOf(t, again, c, img)
	if d, err := again.LayerBlob(t.Context(), other); err != nil || d.Digest != desc.Digest {
		t.Errorf("compressed later: %v, %v, want %s", d.Digest, err, desc.Digest)
	}
}

// testImageOf makes the layer of an image of another store.
func testImageOf(t *testing.T, c, from *Client, img *Image) snapshot.Stack {
	t.Helper()
	r, err := from.store.Tar(t.Context(), img.Stack[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := c.store.Import(t.Context(), nil, "", r)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Stack{l}
}

// TestTappedUploadFails: what breaks while a layer is made is mended by the push.
func TestTappedUploadFails(t *testing.T) {
	for name, fault := range map[string]func(n int32, w http.ResponseWriter, r *http.Request) bool{
		"the connection breaks": func(n int32, _ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch || n > 1 {
				return false
			}
			io.CopyN(io.Discard, r.Body, 50_000)
			panic(http.ErrAbortHandler)
		},
		"the registry refuses": func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch || n > 1 {
				return false
			}
			http.Error(w, "no", http.StatusForbidden)
			return true
		},
		"the upload does not begin": func(n int32, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || n > 1 {
				return false
			}
			http.Error(w, "no", http.StatusForbidden)
			return true
		},
		"nobody answers": func(n int32, _ http.ResponseWriter, _ *http.Request) bool {
			if n > 1 {
				return false
			}
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			reg := newTestRegistry(t)
			c := newTestClient(t, quick)
			var posts, patches, all atomic.Int32
			reg.setFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				n := all.Add(1)
				switch r.Method {
				case http.MethodPost:
					n = posts.Add(1)
				case http.MethodPatch:
					n = patches.Add(1)
				}
				return fault(n, w, r)
			})
			img := tapped(t, c, reg.host+"/app")
			mustPush(t, c, reg.host+"/app", img)
			reg.setFault(nil)
			b := newTestClient(t, quick)
			sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))
		})
	}
}

// TestTapOfNoLayer: of a layer that does not come to be nothing stays, here or there.
func TestTapOfNoLayer(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	tap := c.TapLayer(t.Context(), reg.host+"/app", nil, PushOptions{})
	if _, err := tap.Write(testTar(t, "half", 3<<20)[:2<<20]); err != nil {
		t.Fatal(err)
	}
	tap.Done(snapshot.Layer{}, errors.New("the disk is full"))
	if ds, err := c.store.Blobs().All(); err != nil || len(ds) > 0 {
		t.Errorf("blobs %v, %v", ds, err)
	}
	if n := count(reg.take(), "PUT", ""); n > 0 {
		t.Errorf("%d blobs were named", n)
	}
	for range maxCompressions { // what it held is free again
		if tap := c.TapLayer(t.Context(), reg.host+"/app", nil, PushOptions{}); tap == nil {
			t.Fatal("no tap")
		} else {
			defer tap.Done(snapshot.Layer{}, errors.New("the test ends"))
		}
	}
	if tap := c.TapLayer(t.Context(), reg.host+"/app", nil, PushOptions{}); tap != nil {
		t.Error("more taps than compressions")
	}
}

// TestCompressedAhead: without a repository a tap only compresses, and what has been
// compressed ahead is not compressed again.
func TestCompressedAhead(t *testing.T) {
	isolate(t)
	c := newTestClient(t, quick)
	img := tapped(t, c, "")
	if desc, ok := c.store.Blob(img.Stack[0]); !ok || !c.store.Blobs().Has(desc.Digest) {
		t.Fatalf("the layer's blob is not in the store: %v %v", desc, ok)
	}
	if !c.compressions.TryAcquire(maxCompressions) {
		t.Fatal("a compression goes on for ever")
	}
	c.compressions.Release(maxCompressions)
	zstd := Form{Compression: Compression{Type: "zstd"}}
	other := testImage(t, c, "other", 4000, 5000)
	for _, step := range []struct {
		what    string
		form    Form
		onlyNew bool
		img     *Image
		blobs   int
	}{
		{"a known form", Form{}, true, img, 0},
		{"another form", zstd, false, img, 1},
		{"the same again", zstd, false, img, 0},
		{"layers without any", Form{}, true, other, 2},
		{"the same for an archive", Form{}, false, other, 0},
	} {
		before, err := c.store.Blobs().All()
		if err == nil {
			err = c.CompressLayers(t.Context(), step.img.Stack, step.form, step.onlyNew)
		}
		if err != nil {
			t.Fatal(err)
		}
		after, err := c.store.Blobs().All()
		if n := len(after) - len(before); err != nil || n != step.blobs {
			t.Errorf("%s: %d blobs were made, want %d (%v)", step.what, n, step.blobs, err)
		}
	}
}

// held makes a registry that takes nothing of what is sent until the function is called.
func held(t *testing.T, reg *testRegistry) (release func()) {
	hold := make(chan struct{})
	release = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	reg.setFault(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPatch {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		return false
	})
	return release
}

// TestTapDoesNotWaitForTheNetwork: a layer is there before the registry has taken it.
func TestTapDoesNotWaitForTheNetwork(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	c := newTestClient(t, quick)
	release := held(t, reg)
	img := tappedOf(t, c, reg.host+"/app", 24<<20) // more than the buffers of a connection
	if _, ok := c.store.Blob(img.Stack[0]); !ok {
		t.Error("the layer is made, but not its blob")
	}
	release()
	mustPush(t, c, reg.host+"/app", img)
	reg.setFault(nil)
	b := newTestClient(t, quick)
	sameImage(t, c, img, b, mustPull(t, b, reg.host+"/app"))
}

// TestTapOfKnownLayer: what the registry has is not sent again to its end.
func TestTapOfKnownLayer(t *testing.T) {
	isolate(t)
	reg := newTestRegistry(t)
	first := newTestClient(t, quick)
	mustPush(t, first, reg.host+"/app", tappedOf(t, first, reg.host+"/app", 24<<20))
	reg.take()

	opts := quick
	opts.Timeouts.Stall = time.Hour
	c := newTestClient(t, opts)
	held(t, reg) // for ever: the push would not end
	img := tappedOf(t, c, reg.host+"/app", 24<<20)
	if err := c.PushLayers(t.Context(), reg.host+"/app", img.Stack, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := count(reg.take(), "PUT", "/blobs/"); n != 0 {
		t.Errorf("%d blobs were sent", n)
	}
}
