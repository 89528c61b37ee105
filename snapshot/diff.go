package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/owner"
	"layered.build/builder/snapshot/pack"
)

// differ walks the upper directory of an overlay and finds the entries of its
// layer, in manifest order. What is in a layer follows BuildKit: an object that
// overlay copied up but nobody changed is left out; a directory is in if it
// changed or if something below it is in; an opaque directory becomes explicit
// whiteouts of what the lower layers have there; the root is never in.
type differ struct {
	// side has the owners of symlinks and fifos where owners are recorded.
	side   map[owner.Inode]owner.Stat
	m      *object.Maker
	upper  string
	emit   func(pack.Item) error
	epoch  *time.Time
	fuse   bool             // fuse-overlayfs made upper
	below  Tree             // the layers below; nil if none of them has real times
	inodes map[inode]string // first path of files with several names
	// prune are objects of upper that are in no entry, in the order in which
	// they can be removed; times are the modification times to set at last.
	prune []string
	times []timedPath
}

// fuseMarks are objects by which fuse-overlayfs marks an opaque directory, beside
// the attribute.
func fuseMarks() [2]string { return [2]string{".wh..wh..opq", ".wh..opq"} }

type inode struct{ dev, ino uint64 }

type timedPath struct {
	path string
	time time.Time
}

// frame is a directory on the way down.
type frame struct {
	rel    string // "." for the root
	lowers []string
	// opaque: this directory, or one above it, hides the lowers; then unchanged
	// objects are in no entry but stay on disk.
	opaque bool
	parent *frame
	// item is emitted before the first entry below; nil when it has been.
	item *pack.Item
	// load, unless nil, makes item when it is needed.
	load func() (*pack.Item, error)
	// pruned says that something directly in it is going to be removed.
	pruned bool
}

func (d *differ) walk(ctx context.Context, lowers []string) error {
	d.inodes = map[inode]string{}
	return d.dir(ctx, &frame{rel: ".", lowers: lowers})
}

func (d *differ) dir(ctx context.Context, f *frame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := readNames(filepath.Join(d.upper, f.rel))
	if err != nil {
		return err
	}
	inUpper := map[string]bool(nil)
	if f.opaque && len(f.lowers) > 0 {
		if names, inUpper, err = d.withHidden(f, names); err != nil {
			return err
		}
	}
	for _, name := range names {
		if marks := fuseMarks(); d.fuse && (name == marks[0] || name == marks[1]) {
			d.remove(f, filepath.Join(d.upper, f.rel, name))
			continue
		}
		rel := name
		if f.rel != "." {
			rel = f.rel + "/" + name
		}
		if inUpper != nil && !inUpper[name] {
			err = d.whiteout(f, rel)
		} else {
			err = d.object(ctx, f, rel, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

// withHidden adds the names that an opaque directory hides.
func (d *differ) withHidden(f *frame, names []string) ([]string, map[string]bool, error) {
	has := make(map[string]bool, len(names))
	for _, n := range names {
		has[n] = true
	}
	hidden := map[string]bool{}
	for _, l := range f.lowers {
		ns, err := readNames(l)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range ns {
			if !has[n] && !hidden[n] {
				hidden[n] = true
				if st, _, _, err := lowerLookup(f.lowers, n); err != nil {
					return nil, nil, err
				} else if st != nil {
					names = append(names, n)
				}
			}
		}
	}
	sort.Strings(names)
	return names, has, nil
}

func (d *differ) whiteout(f *frame, rel string) error {
	return d.send(f, pack.Item{Record: manifest.Record{Entry: Entry{Path: rel, Type: TypeWhiteout, ModTime: time.Unix(0, 0)}}})
}

// send emits an item after the directories above it.
func (d *differ) send(f *frame, it pack.Item) error {
	if err := d.flush(f); err != nil {
		return err
	}
	return d.emit(it)
}

// flush emits a directory and those above it, unless that has been done.
func (d *differ) flush(f *frame) error {
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
	return d.send(f.parent, it)
}

// object handles one object of the upper directory.
func (d *differ) object(ctx context.Context, f *frame, rel, name string) error {
	host := filepath.Join(d.upper, rel)
	var st unix.Stat_t
	if err := object.Lstat(host, &st); err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	e, opaque, err := d.m.Describe(host, &st)
	if err != nil {
		return err
	}
	e.Path = rel
	if err := d.sideOwner(host, &e); err != nil {
		return err
	}
	if e.Type == TypeSocket {
		if !f.opaque {
			d.remove(f, host)
		}
		return nil
	}
	lower, lowerPath, lowers, err := lowerLookup(f.lowers, name)
	if err != nil {
		return err
	}
	if e.Type == TypeWhiteout {
		if lower == nil {
			d.remove(f, host)
			return nil
		}
		return d.whiteout(f, rel)
	}
	if e.Type == TypeSymlink {
		if e.Linkname, err = os.Readlink(host); err != nil {
			return err
		}
	}
	same := false
	if lower != nil {
		if same, err = d.sameObject(lower, lowerPath, &st, host, &e); err != nil {
			return err
		}
		if err := d.inherit(lower, &e); err != nil {
			return err
		}
	}
	if e.Type == TypeDir {
		return d.directory(ctx, &frame{rel: rel, parent: f, lowers: lowers, opaque: f.opaque || opaque}, host, e, same)
	}
	if same {
		if !f.opaque {
			d.remove(f, host)
		}
		return nil
	}
	return d.changed(f, host, &st, e)
}

func (d *differ) directory(ctx context.Context, f *frame, host string, e Entry, same bool) error {
	shown := d.clamp(&e)
	f.item = &pack.Item{Record: manifest.Record{Entry: e}}
	if !same {
		if err := d.flush(f); err != nil {
			return err
		}
	}
	if err := d.dir(ctx, f); err != nil {
		return err
	}
	if f.item != nil && !f.parent.opaque && !f.opaque {
		d.remove(f.parent, host)
		return nil
	}
	if f.pruned || shown {
		d.times = append(d.times, timedPath{host, e.ModTime})
	}
	return nil
}

func (d *differ) changed(f *frame, host string, st *unix.Stat_t, e Entry) error {
	if redirect, _ := object.ReadXattr(host, "trusted.overlay.metacopy"); redirect != "" {
		return fmt.Errorf("%s has no content of its own: overlay's metacopy is not supported", e.Path)
	}
	it := pack.Item{Host: host}
	if d.clamp(&e) {
		d.times = append(d.times, timedPath{host, e.ModTime})
	}
	if e.Type == TypeFile && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := d.inodes[key]; ok {
			e.Hardlink = first
		} else {
			d.inodes[key] = e.Path
			it.Linked = true
		}
	}
	it.Record.Entry = e
	return d.send(f, it)
}

// clamp limits a modification time to the epoch and to whole seconds, as tars
// keep it, and reports whether the object on disk has to follow.
func (d *differ) clamp(e *Entry) bool {
	had := e.ModTime.Unix()
	e.Limit(e.TrueTime(), d.epoch)
	return e.ModTime.Unix() != had
}

// inherit gives an object of the upper directory the real time of the one below
// that it was copied up from, if the time is still that one's.
func (d *differ) inherit(lower *unix.Stat_t, e *Entry) error {
	if d.below == nil || e.ModTime.Unix() != lower.Mtim.Sec || int64(e.ModTime.Nanosecond()) != lower.Mtim.Nsec {
		return nil
	}
	was, err := d.below.Lstat(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e.RealTime = was.RealTime
	return nil
}

func (d *differ) remove(f *frame, host string) {
	f.pruned = true
	d.prune = append(d.prune, host)
}

// settle makes the directory say what the tar says: it removes what is in no
// entry and sets times. It runs when nothing reads the directory any more.
func (d *differ) settle() error {
	for _, p := range d.prune {
		if err := os.Remove(p); err != nil {
			return fmt.Errorf("remove unchanged object: %w", err)
		}
	}
	for _, t := range d.times {
		if err := object.SetTime(t.path, t.time); err != nil {
			return err
		}
	}
	return nil
}

// lowerLookup finds name in the directories of lower layers, topmost first. It
// returns nil if it is not there. For a directory it returns the directories that
// are merged in it.
func lowerLookup(lowers []string, name string) (found *unix.Stat_t, path string, dirs []string, err error) {
	for _, l := range lowers {
		p := l + "/" + name
		st := new(unix.Stat_t)
		if err := object.Lstat(p, st); errors.Is(err, unix.ENOENT) {
			continue
		} else if err != nil {
			return nil, "", nil, fmt.Errorf("stat %s: %w", p, err)
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if object.IsWhiteout(st) || (found != nil && !isDir) {
			break
		}
		if found == nil {
			found, path = st, p
		}
		if !isDir {
			break
		}
		dirs = append(dirs, p)
		if isOpaqueDir(p) {
			break
		}
	}
	return found, path, dirs, nil
}

func isOpaqueDir(path string) bool {
	var b [2]byte
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Lgetxattr(path, name, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

// sideOwner gives a symlink or fifo the owner that is known of it.
func (d *differ) sideOwner(host string, e *Entry) error {
	if len(d.side) == 0 || e.Type != TypeSymlink && e.Type != TypeFifo {
		return nil
	}
	i, err := owner.InodeOf(unix.AT_FDCWD, host)
	if err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	if rec, ok := d.side[i]; ok {
		e.UID, e.GID = rec.UID, rec.GID
	}
	return nil
}
