package s3

import (
	"strconv"
	"testing"
	"time"

	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures/peer"
)

// TestPeer does with a server of others what TestConformance does with our own.
func TestPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long to build; not in a short run")
	}
	s, err := peer.StartS3(t.Context(), t.TempDir(), testBucket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	n := 0
	attrs := func(t *testing.T, more string) *shared.Attrs {
		a, err := shared.ParseAttrs("type=s3,bucket=" + testBucket + ",endpoint_url=" + s.URL +
			",access_key_id=" + s.Key + ",secret_access_key=" + s.Secret + ",prefix=of test+" + strconv.Itoa(n) + "/" + more)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	place := func(t *testing.T, more string) *object.Place {
		p, err := New(attrs(t, more), none)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
		n++
		return func() shared.Backend { return place(t, "") }
	})
	t.Run("Touch", func(t *testing.T) {
		n++
		o, err := readOptions(attrs(t, ""), none)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Settings{}.bucket(&o, none)
		if err != nil {
			t.Fatal(err)
		}
		b := sharedtest.NewBlob([]byte("touched"))
		if err := place(t, "").Store(t.Context(), b, sharedtest.Content([]byte("touched"))); err != nil {
			t.Fatal(err)
		}
		key := "of test+" + strconv.Itoa(n) + "/blobs/" + b.Digest.String()
		time.Sleep(1100 * time.Millisecond) // what was modified counts seconds
		if err := place(t, ",touch_refresh=1ms").Replace(t.Context(), "", []byte("index"), []shared.Blob{b}, ""); err != nil {
			t.Fatal(err)
		}
		after, err := objects.Stat(t.Context(), key)
		// This server takes the time of the file, which copying it onto itself does not change.
		if err != nil || after.Header.Get("X-Amz-Meta-Updated-At") == "" || after.Size != b.Size {
			t.Errorf("got %+v, %v", after, err)
		}
	})
}
