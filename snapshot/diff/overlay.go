package diff

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
	"layered.build/builder/snapshot/tree"
)

// Upper is the upper directory of an overlay.
type Upper struct {
	// Maker says what objects are.
	Maker *object.Maker
	// Dir is the directory itself, and Lowers are those of the layers below, the
	// topmost first.
	Dir    string
	Lowers []string
	// Fuse says that fuse-overlayfs made it.
	Fuse bool
	// Side has the owners of symlinks and fifos where owners are recorded.
	Side map[owner.Inode]owner.Stat
	// Epoch, unless nil, is the latest modification time that entries have.
	Epoch *time.Time
	// Below is the merged view of the layers below, if some of them have real times.
	Below tree.Tree
}

// Overlay returns what finds the entries of the layer that an upper directory is, and
// makes the directory say the same afterwards.
func Overlay(u Upper) *Differ {
	return &Differ{Emitter: NewEmitter(u.Epoch, u.Below), Upper: u, remade: map[string]bool{}}
}

// Differ walks the upper directory of an overlay and finds the entries of its
// layer, in manifest order. What is in a layer follows BuildKit: an object that
// overlay copied up but nobody changed is left out; a directory is in if it
// changed or if something below it is in; an opaque directory becomes explicit
// whiteouts of what the lower layers have there; the root is never in.
type Differ struct {
	Emitter
	Upper
	// remade are opaque directories that hold what the lower layers have there: they
	// are removed with all that is in them.
	remade map[string]bool
	// held are unchanged objects with other names, and directories that only lead to such,
	// in the order in which they can be removed: they stay if one of the names is new.
	held    []held
	aliases []tree.Alias
}

// held is an unchanged object that may have to stay in the directory.
type held struct {
	folder *Folder
	rel    string
	host   string
	st     unix.Stat_t
	// isDir: a directory, whose time is set if it stays.
	isDir bool
	time  time.Time
}

// frame is a directory of the upper one on the way down.
type frame struct {
	Folder
	lowers []string
	// opaque: this directory, or one above it, hides the lowers; then unchanged
	// objects are in no entry but stay on disk.
	opaque bool
	// within: one above it does.
	within bool
	// holds says that something in it is held.
	holds bool
}

// Walk finds the entries; it is a pack.Walk.
func (d *Differ) Walk(ctx context.Context, emit func(pack.Item) error) error {
	d.Begin(emit)
	if err := d.dir(ctx, &frame{Folder: Folder{Rel: "."}, lowers: d.Lowers}); err != nil {
		return err
	}
	d.letGo()
	return nil
}

// letGo decides about what is held, now that all entries are known.
func (d *Differ) letGo() {
	stays := map[string]bool{} // directories
	for _, h := range d.held {
		if h.isDir {
			if stays[h.host] {
				d.Times = append(d.Times, Stamp{h.host, h.time})
			} else {
				d.Remove(h.folder, h.host)
				continue
			}
		} else if entry, ok := d.Entry(&h.st); ok {
			d.aliases = append(d.aliases, tree.Alias{Path: h.rel, Entry: entry})
		} else {
			d.Remove(h.folder, h.host)
			continue
		}
		stays[filepath.Dir(h.host)] = true
	}
}

// Aliases are further names of the entries: hard links that were made to what the layers
// below have. They stay in the directory, but are no entries, as BuildKit has it.
func (d *Differ) Aliases() []tree.Alias { return d.aliases }

func (d *Differ) dir(ctx context.Context, f *frame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := ReadNames(filepath.Join(d.Upper.Dir, f.Rel))
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
		if marks := fuseMarks(); d.Fuse && (name == marks[0] || name == marks[1]) {
			d.Remove(&f.Folder, filepath.Join(d.Upper.Dir, f.Rel, name))
			continue
		}
		rel := name
		if f.Rel != "." {
			rel = f.Rel + "/" + name
		}
		if inUpper != nil && !inUpper[name] {
			err = d.Whiteout(&f.Folder, rel)
		} else {
			err = d.object(ctx, f, rel, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadNames lists a directory, sorted.
func ReadNames(dir string) ([]string, error) {
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
func (d *Differ) withHidden(f *frame, names []string) ([]string, map[string]bool, error) {
	has := make(map[string]bool, len(names))
	for _, n := range names {
		has[n] = true
	}
	hidden := map[string]bool{}
	for _, l := range f.lowers {
		ns, err := ReadNames(l)
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
func (d *Differ) object(ctx context.Context, f *frame, rel, name string) error {
	host := filepath.Join(d.Upper.Dir, rel)
	var st unix.Stat_t
	if err := object.Lstat(host, &st); err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	e, opaque, err := d.Maker.Describe(host, &st)
	if err != nil {
		return err
	}
	e.Path = rel
	if err := d.sideOwner(host, &e); err != nil {
		return err
	}
	if e.Type == manifest.TypeSocket {
		if !f.opaque {
			d.Remove(&f.Folder, host)
		}
		return nil
	}
	lower, lowerPath, lowers, err := lowerLookup(f.lowers, name)
	if err != nil {
		return err
	}
	if e.Type == manifest.TypeWhiteout {
		if lower == nil {
			d.Remove(&f.Folder, host)
			return nil
		}
		return d.Whiteout(&f.Folder, rel)
	}
	if e.Type == manifest.TypeSymlink {
		if e.Linkname, err = os.Readlink(host); err != nil {
			return err
		}
	}
	same := false
	if lower != nil {
		if same, err = d.sameObject(lower, lowerPath, &st, host, &e); err != nil {
			return err
		}
		if err := d.Inherit(lower, &e); err != nil {
			return err
		}
	}
	if e.Type == manifest.TypeDir {
		sub := &frame{Folder: Folder{Rel: rel, Parent: &f.Folder}, lowers: lowers, opaque: f.opaque || opaque, within: f.opaque}
		err := d.directory(ctx, sub, host, e, same)
		f.holds = f.holds || sub.holds
		return err
	}
	switch {
	case !same:
		return d.Changed(&f.Folder, host, &st, e)
	case f.opaque: // it stays
	case st.Nlink > 1:
		f.holds = true
		d.held = append(d.held, held{folder: &f.Folder, rel: rel, host: host, st: st})
	default:
		d.Remove(&f.Folder, host)
	}
	return nil
}

func (d *Differ) directory(ctx context.Context, f *frame, host string, e manifest.Entry, same bool) error {
	shown := d.Clamp(&e)
	f.Item = &pack.Item{Record: manifest.Record{Entry: e}}
	if !same {
		if err := d.Flush(&f.Folder); err != nil {
			return err
		}
	}
	prune, times := len(d.Prune), len(d.Times)
	if err := d.dir(ctx, f); err != nil {
		return err
	}
	if f.Item != nil && !f.within {
		if f.opaque {
			d.Prune, d.Times = d.Prune[:prune], d.Times[:times]
		}
		if f.holds {
			d.held = append(d.held, held{folder: f.Parent, host: host, isDir: true, time: e.ModTime})
			return nil
		}
		d.remade[host] = f.opaque
		d.Remove(f.Parent, host)
		return nil
	}
	if f.Pruned || f.holds || shown {
		d.Times = append(d.Times, Stamp{host, e.ModTime})
	}
	return nil
}

// Settle makes the directory say what the tar says: it removes what is in no
// entry and sets times. It runs when nothing reads the directory any more.
func (d *Differ) Settle() error {
	for _, p := range d.Prune {
		remove := os.Remove
		if d.remade[p] {
			remove = os.RemoveAll
		}
		if err := remove(p); err != nil {
			return fmt.Errorf("remove unchanged object: %w", err)
		}
	}
	for _, t := range d.Times {
		if err := object.SetTime(t.Path, t.Time); err != nil {
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
func (d *Differ) sideOwner(host string, e *manifest.Entry) error {
	if len(d.Side) == 0 || e.Type != manifest.TypeSymlink && e.Type != manifest.TypeFifo {
		return nil
	}
	i, err := owner.InodeOf(unix.AT_FDCWD, host)
	if err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	if rec, ok := d.Side[i]; ok {
		e.UID, e.GID = rec.UID, rec.GID
	}
	return nil
}
