package snapshot_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

func openAt(t *testing.T, root string) *snapshot.Store {
	t.Helper()
	s, err := snapshot.Open(root, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestCollectKeepsUsed proves that what another process has seen is not removed
// until it ends or says that it needs it no more.
func TestCollectKeepsUsed(t *testing.T) {
	root := t.TempDir()
	maker, user, collector := openAt(t, root), openAt(t, root), openAt(t, root)
	seen, err := maker.Blobs().Put(t.Context(), []byte("seen"))
	if err != nil {
		t.Fatal(err)
	}
	unseen, err := maker.Blobs().Put(t.Context(), []byte("unseen"))
	if err != nil {
		t.Fatal(err)
	}
	removeAll := func() {
		t.Helper()
		err := collector.Collect(t.Context(), func(c *snapshot.Collection) error {
			for _, d := range []digest.Digest{seen, unseen} {
				if err := c.RemoveBlob(d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(d digest.Digest, there bool) {
		t.Helper()
		// Asking a store would use the blob.
		if _, err := os.Stat(collector.Blobs().Path(d)); (err == nil) != there {
			t.Errorf("blob %s: %v, want there: %t", d, err, there)
		}
	}
	if !user.Blobs().Has(seen) {
		t.Fatal("the blob is not there")
	}
	removeAll()
	want(seen, true)
	want(unseen, true) // its maker lives

	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	removeAll()
	want(seen, true)
	want(unseen, false)

	if err := user.Unpin(); err != nil {
		t.Fatal(err)
	}
	removeAll()
	want(seen, false)
	if _, err := user.Blobs().Open(seen); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open a removed blob: %v", err)
	}
}

// TestCollectExcludesUse proves that nobody sees a thing while it is decided that it
// goes.
func TestCollectExcludesUse(t *testing.T) {
	root := t.TempDir()
	user, collector := openAt(t, root), openAt(t, root)
	d, err := collector.Blobs().Put(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := collector.Unpin(); err != nil {
		t.Fatal(err)
	}
	asked := make(chan bool, 1)
	err = collector.Collect(t.Context(), func(c *snapshot.Collection) error {
		started := make(chan struct{})
		go func() {
			close(started)
			asked <- user.Blobs().Has(d)
		}()
		<-started
		return c.RemoveBlob(d)
	})
	if err != nil {
		t.Fatal(err)
	}
	if there := <-asked; there {
		t.Error("a blob was seen while it was removed")
	}
}
