package snapshot_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/fixtures"
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

	if err := user.Release(); err != nil {
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
	if err := collector.Release(); err != nil {
		t.Fatal(err)
	}
	asked := make(chan bool, 1)
	err = collector.Collect(t.Context(), func(c *snapshot.Collection) error {
		go func() { asked <- user.Blobs().Has(d) }()
		fixtures.Await(t, func() string {
			if len(asked) > 0 || waitsForLock(t, filepath.Join(root, "collect.lock")) {
				return ""
			}
			return "nobody waits for the collection to end"
		})
		if len(asked) > 0 {
			t.Errorf("while a collection decided, somebody was told %t of a blob", <-asked)
			asked <- false
		}
		return c.RemoveBlob(d)
	})
	if err != nil {
		t.Fatal(err)
	}
	if there := <-asked; there {
		t.Error("a blob was seen that is removed")
	}
}

// waitsForLock asks the kernel whether somebody waits for a lock on a file.
func waitsForLock(t *testing.T, path string) bool {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	inode := fmt.Sprintf(":%d ", st.Ino)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, " -> ") && strings.Contains(line, inode) {
			return true
		}
	}
	return false
}
