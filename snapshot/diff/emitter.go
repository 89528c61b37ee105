package diff

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tree"
)

// Emitter turns what a walk finds into the items of a layer, and remembers what has to
// be done to the directory afterwards. A directory is emitted when something below it is
// (Flush), or not at all. It is used by one goroutine.
type Emitter struct {
	emit  func(pack.Item) error
	epoch *time.Time
	below tree.Tree // the layers below; nil if none of them has real times
	// inodes are the first paths of objects with several names.
	inodes map[inode]string

	// Prune are objects that are in no entry, in the order in which they can be removed.
	Prune []string
	// Times are the modification times to set at last.
	Times []Stamp
}

// NewEmitter returns one that limits times to the epoch, unless it is nil. Below is the
// merged view of the layers below; nil if none of them has real times.
func NewEmitter(epoch *time.Time, below tree.Tree) Emitter {
	return Emitter{epoch: epoch, below: below, inodes: map[inode]string{}}
}

// Begin says where items go. It is called before anything is emitted.
func (m *Emitter) Begin(emit func(pack.Item) error) { m.emit = emit }

type inode struct{ dev, ino uint64 }

// Stamp is a modification time that an object of the directory is to get.
type Stamp struct {
	Path string
	Time time.Time
}

// Folder is a directory on the way down.
type Folder struct {
	// Rel is the path as in Entry.Path, and Parent the directory that it is in, nil for
	// the root.
	Rel    string
	Parent *Folder
	// Item is emitted before the first entry below; nil when it has been.
	Item *pack.Item
	// Load, unless nil, makes Item when it is needed.
	Load func() (*pack.Item, error)
	// Pruned says that something directly in it is going to be removed.
	Pruned bool
}

// Entry is the first entry that an object has so far, by whatever name.
func (m *Emitter) Entry(st *unix.Stat_t) (path string, ok bool) {
	path, ok = m.inodes[inode{st.Dev, st.Ino}]
	return path, ok
}

// Whiteout emits the removal of a path.
func (m *Emitter) Whiteout(f *Folder, rel string) error {
	return m.send(f, pack.Item{Record: manifest.Record{Entry: manifest.Entry{Path: rel, Type: manifest.TypeWhiteout, ModTime: time.Unix(0, 0)}}})
}

// send emits an item after the directories above it.
func (m *Emitter) send(f *Folder, it pack.Item) error {
	if err := m.Flush(f); err != nil {
		return err
	}
	return m.emit(it)
}

// Flush emits a directory and those above it, unless that has been done.
func (m *Emitter) Flush(f *Folder) error {
	if f != nil && f.Load != nil {
		it, err := f.Load()
		if err != nil {
			return err
		}
		f.Item, f.Load = it, nil
	}
	if f == nil || f.Item == nil {
		return nil
	}
	it := *f.Item
	f.Item = nil
	return m.send(f.Parent, it)
}

// Clamp limits a modification time to the epoch and to whole seconds, as tars
// keep it, and reports whether the object on disk has to follow.
func (m *Emitter) Clamp(e *manifest.Entry) bool {
	had := e.ModTime.Unix()
	e.Limit(e.TrueTime(), m.epoch)
	return e.ModTime.Unix() != had
}

// Inherit gives an object of the upper directory the real time of the one below
// that it was copied up from, if the time is still that one's.
func (m *Emitter) Inherit(lower *unix.Stat_t, e *manifest.Entry) error {
	if m.below == nil || e.ModTime.Unix() != lower.Mtim.Sec || int64(e.ModTime.Nanosecond()) != lower.Mtim.Nsec {
		return nil
	}
	was, err := m.below.Lstat(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e.RealTime = was.RealTime
	return nil
}

// Remove notes that an object is to be removed from the directory afterwards.
func (m *Emitter) Remove(f *Folder, host string) {
	f.Pruned = true
	m.Prune = append(m.Prune, host)
}

// Changed emits an object that is no directory, as it lies at host.
func (m *Emitter) Changed(f *Folder, host string, st *unix.Stat_t, e manifest.Entry) error {
	if redirect, _ := object.ReadXattr(host, "trusted.overlay.metacopy"); redirect != "" {
		return fmt.Errorf("%s has no content of its own: overlay's metacopy is not supported", e.Path)
	}
	it := pack.Item{Host: host}
	if m.Clamp(&e) {
		m.Times = append(m.Times, Stamp{host, e.ModTime})
	}
	if st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := m.inodes[key]; ok {
			e.Hardlink = first
		} else {
			m.inodes[key] = e.Path
			it.Linked = true
		}
	}
	it.Record.Entry = e
	return m.send(f, it)
}
