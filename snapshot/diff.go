package snapshot

import (
	"context"
	"errors"
	"fmt"
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

// upperDir is the upper directory of an overlay.
type upperDir struct {
	maker  *object.Maker
	dir    string
	lowers []string // the directories of the layers below, topmost first
	fuse   bool     // fuse-overlayfs made it
	// side has the owners of symlinks and fifos where owners are recorded.
	side map[owner.Inode]owner.Stat
	// epoch, unless nil, is the latest modification time that entries have.
	epoch *time.Time
	// below is the merged view of the layers below, if some of them have real times.
	below Tree
}

// overlayDiff returns what finds the entries of the layer that an upper directory is, and
// what makes the directory say the same afterwards.
func overlayDiff(u upperDir) (walk pack.Walk, settle func() error) {
	d := &differ{emitter: newEmitter(u.epoch, u.below), upperDir: u}
	return d.walk, d.settle
}

// differ walks the upper directory of an overlay and finds the entries of its
// layer, in manifest order. What is in a layer follows BuildKit: an object that
// overlay copied up but nobody changed is left out; a directory is in if it
// changed or if something below it is in; an opaque directory becomes explicit
// whiteouts of what the lower layers have there; the root is never in.
type differ struct {
	emitter
	upperDir
}

// frame is a directory of the upper one on the way down.
type frame struct {
	folder
	lowers []string
	// opaque: this directory, or one above it, hides the lowers; then unchanged
	// objects are in no entry but stay on disk.
	opaque bool
	// within: one above it does.
	within bool
}

// walk finds the entries.
func (d *differ) walk(ctx context.Context, emit func(pack.Item) error) error {
	d.begin(emit)
	return d.dir(ctx, &frame{folder: folder{rel: "."}, lowers: d.lowers})
}

func (d *differ) dir(ctx context.Context, f *frame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := readNames(filepath.Join(d.upperDir.dir, f.rel))
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
			d.remove(&f.folder, filepath.Join(d.upperDir.dir, f.rel, name))
			continue
		}
		rel := name
		if f.rel != "." {
			rel = f.rel + "/" + name
		}
		if inUpper != nil && !inUpper[name] {
			err = d.whiteout(&f.folder, rel)
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

// object handles one object of the upper directory.
func (d *differ) object(ctx context.Context, f *frame, rel, name string) error {
	host := filepath.Join(d.upperDir.dir, rel)
	var st unix.Stat_t
	if err := object.Lstat(host, &st); err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	e, opaque, err := d.maker.Describe(host, &st)
	if err != nil {
		return err
	}
	e.Path = rel
	if err := d.sideOwner(host, &e); err != nil {
		return err
	}
	if e.Type == TypeSocket {
		if !f.opaque {
			d.remove(&f.folder, host)
		}
		return nil
	}
	lower, lowerPath, lowers, err := lowerLookup(f.lowers, name)
	if err != nil {
		return err
	}
	if e.Type == TypeWhiteout {
		if lower == nil {
			d.remove(&f.folder, host)
			return nil
		}
		return d.whiteout(&f.folder, rel)
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
		return d.directory(ctx, &frame{folder: folder{rel: rel, parent: &f.folder}, lowers: lowers, opaque: f.opaque || opaque, within: f.opaque}, host, e, same)
	}
	if same {
		if !f.opaque {
			d.remove(&f.folder, host)
		}
		return nil
	}
	return d.changed(&f.folder, host, &st, e)
}

func (d *differ) directory(ctx context.Context, f *frame, host string, e Entry, same bool) error {
	shown := d.clamp(&e)
	f.item = &pack.Item{Record: manifest.Record{Entry: e}}
	if !same {
		if err := d.flush(&f.folder); err != nil {
			return err
		}
	}
	if err := d.dir(ctx, f); err != nil {
		return err
	}
	if f.item != nil && !f.within && !f.opaque {
		d.remove(f.parent, host)
		return nil
	}
	if f.pruned || shown {
		d.times = append(d.times, timedPath{host, e.ModTime})
	}
	return nil
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
