package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
)

// collectLock is held shared while a process writes down what it is about to look
// for, and exclusively while a collection decides and removes.
const collectLock = "collect.lock"

// pins are what this process uses of the store: each layer and blob that it asked
// for or made. They are lines of the file that is locked while the store is open,
// so that they end with the process however it ends. A collection removes nothing
// that is pinned. A name is written down before the store looks whether the thing
// is there; so a process that saw it has it pinned.
type pins struct {
	known   sync.Map // pin names that are written down
	written atomic.Int64

	mu   sync.Mutex // guards what follows
	lock *os.File   // collectLock, nil until it is needed
	all  bool       // the lock stays held: nothing can be collected any more
}

func layerPin(id LayerID) string         { return "l" + string(id) }
func blobPin(d digest.Digest) string     { return "b" + d.Encoded() }
func (s *Store) pinLayer(id LayerID)     { s.pin(layerPin(id)) }
func (s *Store) made(n int64)            { s.pins.written.Add(n) }
func (s *Store) pinBlob(d digest.Digest) { s.pin(blobPin(d)) }

// Written returns about how many bytes this process has added to the store.
func (s *Store) Written() int64 { return s.pins.written.Load() }

// pin writes a name down. It waits while a collection is going on. When nothing
// can be written (the disk is full), collections are kept away altogether.
func (s *Store) pin(name string) {
	if _, ok := s.pins.known.Load(name); ok {
		return
	}
	p := &s.pins
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all {
		return
	}
	if p.lock == nil {
		f, err := os.OpenFile(s.path(collectLock), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return // without a lock file there is no collection either
		}
		p.lock = f
	}
	if files.Flock(context.Background(), p.lock, files.Shared) != nil {
		return
	}
	if _, err := s.owner.File().Write([]byte(name + "\n")); err != nil {
		p.all = true
		return
	}
	p.known.Store(name, nil)
	files.Unflock(p.lock)
}

// Unpin says that this process no longer relies on what it has used so far.
func (s *Store) Unpin() error {
	p := &s.pins
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known.Clear()
	s.mu.Lock()
	clear(s.views)
	s.mu.Unlock()
	err := s.owner.File().Truncate(0)
	if err == nil {
		_, err = s.owner.File().Seek(0, 0)
	}
	if err == nil && p.all {
		p.all, err = false, files.Unflock(p.lock)
	}
	if err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// close gives the lock file back.
func (p *pins) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lock != nil {
		p.lock.Close()
		p.lock = nil
	}
}

// Collection removes things from a store while no process can begin to use more
// of it. It is valid during the call of Collect.
type Collection struct {
	Pins
	s    *Store
	gone []string // what was moved away
}

// Pins say what living processes use of a store.
type Pins struct {
	names map[string]bool // as they are written down
}

// Pinned reports whether a process uses a layer.
func (p Pins) Pinned(id LayerID) bool { return p.names[layerPin(id)] }

// PinnedBlob reports whether a process uses a blob.
func (p Pins) PinnedBlob(d digest.Digest) bool { return p.names[blobPin(d)] }

// Pins returns what living processes use now. The answer may be outdated at once; that
// of a Collection is not.
func (s *Store) Pins() (Pins, error) { return s.readPins(false) }

// Collect calls fn while all processes that want to use a layer or blob that they
// have not used yet wait, and then deletes what fn removed. Fn must be short, and
// must not use this store in other ways than listing and through the Collection.
func (s *Store) Collect(ctx context.Context, fn func(*Collection) error) error {
	s.pins.mu.Lock()
	all := s.pins.all
	s.pins.mu.Unlock()
	if all { // it would wait for itself
		return errors.New("collect: the disk is too full to write down what this process uses")
	}
	lock, err := files.LockFile(ctx, s.path(collectLock), files.Exclusive)
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	defer lock.Release()
	c := &Collection{s: s}
	if c.Pins, err = s.readPins(false); err == nil {
		err = fn(c)
	}
	lock.Release()
	errs := []error{err}
	for _, p := range c.gone {
		errs = append(errs, files.RemoveAll(p))
	}
	return errors.Join(errs...)
}

// readPins reads what living processes use, perhaps without this one.
func (s *Store) readPins(skipOwn bool) (Pins, error) {
	p := Pins{names: map[string]bool{}}
	names, err := os.ReadDir(s.path(locksDir))
	if err != nil {
		return p, fmt.Errorf("read pins: %w", err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n.Name(), "p") {
			continue
		}
		isOwn := n.Name() == s.name
		if isOwn && skipOwn {
			continue
		}
		if !isOwn {
			if dead, err := s.isDead(n.Name()); err != nil {
				return p, fmt.Errorf("read pins: %w", err)
			} else if dead {
				continue
			}
		}
		data, err := os.ReadFile(s.path(locksDir, n.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("read pins: %w", err)
		}
		for line := range bytes.Lines(data) {
			p.names[strings.TrimSpace(string(line))] = true
		}
	}
	return p, nil
}

// Remove takes a layer out of the store; a pinned one stays.
func (c *Collection) Remove(id LayerID) error {
	if err := checkID(id); err != nil || c.Pinned(id) {
		return err
	}
	return c.move(c.s.layerPath(id))
}

// RemoveBlob takes a blob out of the store; a pinned one stays.
func (c *Collection) RemoveBlob(d digest.Digest) error {
	if err := checkBlobDigest(d); err != nil || c.PinnedBlob(d) {
		return err
	}
	return c.move(c.s.blobs.Path(d))
}

func (c *Collection) move(path string) error {
	tmp := c.s.tempName(tmpDir)
	err := os.Rename(path, tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	c.gone = append(c.gone, tmp)
	return nil
}

// Discard moves any other file or folder of the store away, to be deleted.
func (c *Collection) Discard(path string) error { return c.move(path) }

// Has reports whether a layer has a folder in the store, without using (pinning) it.
func (c *Collection) Has(id LayerID) bool {
	if checkID(id) != nil {
		return false
	}
	_, err := os.Lstat(c.s.layerPath(id))
	return err == nil
}

// RemoveBroken takes a damaged layer out of the store although a process may use it.
func (c *Collection) RemoveBroken(id LayerID) error {
	if err := checkID(id); err != nil {
		return err
	}
	return c.move(c.s.layerPath(id))
}
