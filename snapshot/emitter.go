package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
)

// emitter turns what a walk finds into the items of a layer, and remembers what has to
// be done to the directory afterwards.
type emitter struct {
	emit  func(pack.Item) error
	epoch *time.Time
	below Tree // the layers below; nil if none of them has real times
	// inodes are the first paths of files with several names.
	inodes map[inode]string

	// prune are objects that are in no entry, in the order in which they can be
	// removed; times are the modification times to set at last.
	prune []string
	times []timedPath
}

// newEmitter returns one that limits times to the epoch, unless it is nil.
func newEmitter(epoch *time.Time, below Tree) emitter {
	return emitter{epoch: epoch, below: below, inodes: map[inode]string{}}
}

// begin says where items go.
func (m *emitter) begin(emit func(pack.Item) error) { m.emit = emit }

type inode struct{ dev, ino uint64 }

// timedPath is a modification time that an object of the directory is to get.
type timedPath struct {
	path string
	time time.Time
}

// folder is a directory on the way down.
type folder struct {
	rel    string // "." for the root
	parent *folder
	// item is emitted before the first entry below; nil when it has been.
	item *pack.Item
	// load, unless nil, makes item when it is needed.
	load func() (*pack.Item, error)
	// pruned says that something directly in it is going to be removed.
	pruned bool
}

// whiteout emits the removal of a path.
func (m *emitter) whiteout(f *folder, rel string) error {
	return m.send(f, pack.Item{Record: manifest.Record{Entry: Entry{Path: rel, Type: TypeWhiteout, ModTime: time.Unix(0, 0)}}})
}

// send emits an item after the directories above it.
func (m *emitter) send(f *folder, it pack.Item) error {
	if err := m.flush(f); err != nil {
		return err
	}
	return m.emit(it)
}

// flush emits a directory and those above it, unless that has been done.
func (m *emitter) flush(f *folder) error {
	if f != nil && f.load != nil {
		it, err := f.load()
		if err != nil {
			return err
		}
		f.item, f.load = it, nil
	}
	if f == nil || f.item == nil {
		return nil
	}
	it := *f.item
	f.item = nil
	return m.send(f.parent, it)
}

// clamp limits a modification time to the epoch and to whole seconds, as tars
// keep it, and reports whether the object on disk has to follow.
func (m *emitter) clamp(e *Entry) bool {
	had := e.ModTime.Unix()
	e.Limit(e.TrueTime(), m.epoch)
	return e.ModTime.Unix() != had
}

// inherit gives an object of the upper directory the real time of the one below
// that it was copied up from, if the time is still that one's.
func (m *emitter) inherit(lower *unix.Stat_t, e *Entry) error {
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

// remove notes that an object is to be removed from the directory afterwards.
func (m *emitter) remove(f *folder, host string) {
	f.pruned = true
	m.prune = append(m.prune, host)
}

// changed emits an object that is no directory, as it lies at host.
func (m *emitter) changed(f *folder, host string, st *unix.Stat_t, e Entry) error {
	if redirect, _ := object.ReadXattr(host, "trusted.overlay.metacopy"); redirect != "" {
		return fmt.Errorf("%s has no content of its own: overlay's metacopy is not supported", e.Path)
	}
	it := pack.Item{Host: host}
	if m.clamp(&e) {
		m.times = append(m.times, timedPath{host, e.ModTime})
	}
	if e.Type == TypeFile && st.Nlink > 1 {
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
