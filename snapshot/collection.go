package snapshot

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/object"
)

func layerPin(id LayerID) string         { return "l" + string(id) }
func blobPin(d digest.Digest) string     { return "b" + d.Encoded() }
func (s *Store) pinLayer(id LayerID)     { s.lease.Pin(layerPin(id)) }
func (s *Store) pinBlob(d digest.Digest) { s.lease.Pin(blobPin(d)) }

// Written returns about how many bytes this Store has added to the folder.
func (s *Store) Written() int64 { return s.lease.Written() }

// Release says that whatever this Store was opened for has ended, such as a build: it no
// longer relies on what it has used so far, which a collection may remove from now on.
// Nothing may be using layers, blobs, trees or mounts that it gave out. The Store can be
// used on.
func (s *Store) Release() error {
	s.mu.Lock()
	clear(s.views)
	s.mu.Unlock()
	s.seen.Clear()
	return s.lease.Release()
}

// SetRoom sets what is asked before the store grows. It is called before the store
// is used.
func (s *Store) SetRoom(room Room) { s.room = room }

// WithAccount calls fn with the store's account, which fn may change, while nobody else
// does. Owner is the name of this Store in it. What Stores had open that are closed does
// not count as such.
func (s *Store) WithAccount(ctx context.Context, fn func(a *Account, owner string) error) error {
	return s.lease.WithAccount(ctx, fn)
}

// Account returns the store's account as it was written last, which may be outdated at
// once. It is zero where none can be read.
func (s *Store) Account() Account { return s.lease.Account() }

// Noted says that so many of the bytes that this Store wrote or will write are in the
// account, in one way or the other.
func (s *Store) Noted(bytes int64) { s.lease.Noted(bytes) }

// Unnoted returns about how many bytes this Store has added to the folder of which the
// account does not know.
func (s *Store) Unnoted() int64 { return s.lease.Unnoted() }

// Reclaim removes what dead processes left in the store: their writable snapshots
// and temporary files. What belongs to a living process stays.
func (s *Store) Reclaim(ctx context.Context) error {
	return s.lease.Reclaim(ctx, activeDir, tmpDir)
}

// Abandoned returns the folders of writable snapshots that dead processes left.
// Reclaim removes them.
func (s *Store) Abandoned() ([]string, error) {
	return s.lease.Abandoned(context.Background(), activeDir)
}

// Collection removes things from a store while nobody can begin to use more of it. It is
// valid during the call of Collect.
type Collection struct {
	Pins
	s *Store
	c *lease.Collection
}

// Pins say what open Stores use of a folder.
type Pins struct {
	names map[string]bool // as they are written down
}

// Pinned reports whether a layer is in use.
func (p Pins) Pinned(id LayerID) bool { return p.names[layerPin(id)] }

// PinnedBlob reports whether a blob is in use.
func (p Pins) PinnedBlob(d digest.Digest) bool { return p.names[blobPin(d)] }

// Pins returns what open Stores use now. The answer may be outdated at once; that of a
// Collection is not.
func (s *Store) Pins() (Pins, error) {
	names, err := s.lease.Pins()
	return Pins{names}, err
}

// Collect calls fn while all Stores of the folder, in this process or others, that want
// to use a layer or blob that they have not used yet wait, and then deletes what fn
// removed. What they used stays: this Store's too. Fn must be short, and must not use
// this store in other ways than listing and through the Collection.
func (s *Store) Collect(ctx context.Context, fn func(*Collection) error) error {
	return s.lease.Collect(ctx, func(c *lease.Collection) error { return fn(&Collection{Pins: Pins{c.Pins()}, s: s, c: c}) })
}

// Remove takes a layer out of the store; a pinned one stays.
func (c *Collection) Remove(id LayerID) error {
	if err := checkID(id); err != nil || c.Pinned(id) {
		return err
	}
	return c.c.Move(c.s.layerPath(id))
}

// RemoveBlob takes a blob out of the store; a pinned one stays.
func (c *Collection) RemoveBlob(d digest.Digest) error {
	if err := checkBlobDigest(d); err != nil || c.PinnedBlob(d) {
		return err
	}
	return c.c.Move(c.s.blobs.Path(d))
}

// RemoveBroken takes a damaged layer out of the store although somebody may use it.
func (c *Collection) RemoveBroken(id LayerID) error {
	if err := checkID(id); err != nil {
		return err
	}
	c.s.seen.Delete(id)
	return c.c.Move(c.s.layerPath(id))
}

// Discard moves any other file or folder of the store away, to be deleted.
func (c *Collection) Discard(path string) error { return c.c.Move(path) }

// Has reports whether a layer has a folder in the store, without using (pinning) it.
func (c *Collection) Has(id LayerID) bool {
	if checkID(id) != nil {
		return false
	}
	_, err := os.Lstat(c.s.layerPath(id))
	return err == nil
}

// Usage returns the bytes on disk of a layer in all its forms, without blobs. What
// layers share by hard links (see Clamp) counts for each of them in proportion, so
// that the sum over all layers is what the disk holds.
func (s *Store) Usage(id LayerID) (int64, error) {
	if err := checkID(id); err != nil {
		return 0, err
	}
	var total int64
	var shared float64
	err := filepath.WalkDir(s.layerPath(id), func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := object.Lstat(p, &st); err != nil {
			return err
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			shared += float64(st.Blocks*512) / float64(st.Nlink)
			return nil
		}
		total += st.Blocks * 512
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("usage of layer %s: %w", id, err)
	}
	return total + int64(shared+0.5), nil
}
