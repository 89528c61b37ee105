package snapshot

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/diff"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tree"
)

// workDiffer finds the entries of the layer that a working directory became, by the
// same rules as differ: what is no different from the layers below is in no entry.
type workDiffer struct {
	out   diff.Emitter
	w     *workDir
	lower *tree.Merged
	// found is the state of all objects; of those in touched it has to be read again
	// when the directory is settled.
	found   map[string]objectState
	touched []string
	// linked says of files with several names whether some were in no entry (1) and
	// whether some were (2).
	linked map[fileID]int
}

// differ compares a directory with the stack that it was equal to. It is used once.
func (w *workDir) differ(lower *tree.Merged, epoch *time.Time) *workDiffer {
	return &workDiffer{w: w, lower: lower, out: diff.NewEmitter(epoch, lower), found: make(map[string]objectState, len(w.known))}
}

// walk finds the entries.
func (d *workDiffer) walk(ctx context.Context, emit func(pack.Item) error) error {
	d.out.Begin(emit)
	return d.dir(ctx, &diff.Folder{Rel: "."}, true, false)
}

// dir handles what is in a directory. hasLower says that the layers below have it;
// intact that nothing was made or removed in it.
func (d *workDiffer) dir(ctx context.Context, f *diff.Folder, hasLower, intact bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := diff.ReadNames(d.w.host(f.Rel))
	if err != nil {
		return err
	}
	gone := map[string]bool(nil)
	if hasLower && !intact {
		if names, gone, err = d.withGone(f.Rel, names); err != nil {
			return err
		}
	}
	for _, name := range names {
		rel := name
		if f.Rel != "." {
			rel = f.Rel + "/" + name
		}
		if gone[name] {
			err = d.out.Whiteout(f, rel)
		} else {
			err = d.object(ctx, f, rel)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withGone adds the names that the layers below have and the directory lacks.
func (d *workDiffer) withGone(dir string, names []string) ([]string, map[string]bool, error) {
	below, err := d.lower.List(dir)
	if err != nil {
		return nil, nil, notExisting(err)
	}
	has := make(map[string]bool, len(names))
	for _, n := range names {
		has[n] = true
	}
	gone := map[string]bool{}
	for _, p := range below {
		if n := filepath.Base(p.Path); !has[n] {
			gone[n] = true
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names, gone, nil
}

func (d *workDiffer) object(ctx context.Context, f *diff.Folder, rel string) error {
	host := d.w.host(rel)
	raw := new(unix.Stat_t)
	if err := object.Lstat(host, raw); err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	known, was := d.w.known[rel]
	if was && d.w.untouched(known, raw) {
		d.found[rel] = known
		if known.mode&unix.S_IFMT == unix.S_IFDIR {
			return d.directory(ctx, &diff.Folder{Rel: rel, Parent: f}, Entry{}, dirFacts{same: true, hasLower: true, intact: true})
		}
		d.note(raw, 1)
		return nil
	}
	st, err := d.w.m.Lstat(host)
	if err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	return d.maybeChanged(ctx, f, rel, st)
}

func (d *workDiffer) maybeChanged(ctx context.Context, f *diff.Folder, rel string, st *unix.Stat_t) error {
	host := d.w.host(rel)
	e := object.StatEntry(st)
	e.Path = rel
	if e.Type == TypeSocket || e.Type == TypeWhiteout {
		d.out.Remove(f, host)
		if _, ok := d.w.known[rel]; ok {
			return d.out.Whiteout(f, rel)
		}
		return nil
	}
	var err error
	if e.Xattrs, _, err = object.ReadXattrs(host); err != nil {
		return err
	}
	if e.Type == TypeSymlink {
		if e.Linkname, err = os.Readlink(host); err != nil {
			return err
		}
	}
	known, was := d.w.known[rel]
	same := false
	if was {
		if same, err = d.same(known, st, &e); err != nil {
			return err
		}
		lower := unix.Stat_t{Mtim: known.mtime}
		if err := d.out.Inherit(&lower, &e); err != nil {
			return err
		}
	}
	if e.Type == TypeDir {
		d.found[rel] = stateOf(st)
		wasDir := was && known.mode&unix.S_IFMT == unix.S_IFDIR
		return d.directory(ctx, &diff.Folder{Rel: rel, Parent: f}, e, dirFacts{same: same, hasLower: wasDir})
	}
	d.found[rel] = stateOf(st)
	if same {
		d.note(st, 1)
		return nil
	}
	d.note(st, 2)
	d.touched = append(d.touched, rel)
	return d.out.Changed(f, host, st, e)
}

type fileID struct{ dev, ino uint64 }

// note remembers of files with several names whether they are in entries.
func (d *workDiffer) note(st *unix.Stat_t, how int) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		if d.linked == nil {
			d.linked = map[fileID]int{}
		}
		d.linked[fileID{st.Dev, st.Ino}] |= how
	}
}

// torn reports whether a file is in the new layer by one name and in a lower one by
// another. On other layers they would be two files, so that the directory cannot
// stand in for them.
func (d *workDiffer) torn() bool {
	for _, how := range d.linked {
		if how == 3 {
			return true
		}
	}
	return false
}

// dirFacts is what is known of a directory before what is in it.
type dirFacts struct {
	same     bool // as the layers below have it
	hasLower bool // the layers below have a directory there
	intact   bool // nothing was made or removed in it; the entry is not known
}

func (d *workDiffer) directory(ctx context.Context, f *diff.Folder, e Entry, is dirFacts) error {
	if is.intact {
		// Most directories: their entry is read when something in them needs it.
		return d.intact(ctx, f)
	}
	shown := d.out.Clamp(&e)
	f.Item = &pack.Item{Record: manifest.Record{Entry: e}}
	if !is.same {
		if err := d.out.Flush(f); err != nil {
			return err
		}
	}
	if err := d.dir(ctx, f, is.hasLower, false); err != nil {
		return err
	}
	host := d.w.host(f.Rel)
	switch {
	case f.Item != nil: // in no entry: it looks as below
		d.setTime(f.Rel, host, timeOf(d.w.known[f.Rel].mtime))
	case f.Pruned || shown:
		d.setTime(f.Rel, host, e.ModTime)
	}
	return nil
}

func (d *workDiffer) intact(ctx context.Context, f *diff.Folder) error {
	var e Entry
	shown := false
	f.Load = func() (_ *pack.Item, err error) {
		e, err = d.entry(f.Rel)
		shown = d.out.Clamp(&e)
		return &pack.Item{Record: manifest.Record{Entry: e}}, err
	}
	if err := d.dir(ctx, f, true, true); err != nil {
		return err
	}
	if f.Load == nil && (f.Pruned || shown) {
		d.setTime(f.Rel, d.w.host(f.Rel), e.ModTime)
	}
	return nil
}

// entry is that of a directory that nobody touched.
func (d *workDiffer) entry(rel string) (Entry, error) {
	k := d.w.known[rel]
	e := Entry{Path: rel, Type: TypeDir, Mode: k.mode & 0o7777, UID: k.uid, GID: k.gid, ModTime: timeOf(k.mtime)}
	below, err := d.lower.Lstat(rel)
	if err != nil {
		return e, err
	}
	e.RealTime = below.RealTime
	e.Xattrs, _, err = object.ReadXattrs(d.w.host(rel))
	return e, err
}

func timeOf(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

func (d *workDiffer) setTime(rel, host string, t time.Time) {
	d.out.Times = append(d.out.Times, diff.Stamp{Path: host, Time: t})
	d.touched = append(d.touched, rel)
}

// same is sameObject, by what is known of the object below.
func (d *workDiffer) same(k objectState, st *unix.Stat_t, e *Entry) (bool, error) {
	if k.mode != st.Mode || k.uid != st.Uid || k.gid != st.Gid || k.rdev != st.Rdev {
		return false, nil
	}
	below, err := d.lower.Lstat(e.Path)
	if err != nil {
		return false, notExisting(err)
	}
	if !maps.Equal(below.Xattrs, e.Xattrs) {
		return false, nil
	}
	if e.Type == TypeDir {
		return true, nil
	}
	if k.size != st.Size || k.mtime != st.Mtim {
		return false, nil
	}
	if st.Mtim.Nsec != 0 {
		return true, nil
	}
	switch e.Type {
	case TypeSymlink:
		return below.Linkname == e.Linkname, nil
	case TypeFile:
		return d.sameBytes(e.Path)
	}
	return true, nil
}

func (d *workDiffer) sameBytes(rel string) (bool, error) {
	want, err := d.lower.Digest(rel)
	if err != nil {
		return false, err
	}
	f, err := os.Open(d.w.host(rel))
	if err != nil {
		return false, err
	}
	defer f.Close()
	got, err := digest.SHA256.FromReader(f)
	return got == want, err
}

// settle makes the directory equal to the stack with the new layer.
func (d *workDiffer) settle() error {
	for _, p := range d.out.Prune {
		if err := files.RemoveAll(p); err != nil {
			return fmt.Errorf("remove what cannot be in a layer: %w", err)
		}
	}
	for _, t := range d.out.Times {
		if err := object.SetTime(t.Path, t.Time); err != nil {
			return err
		}
	}
	return nil
}

// adopt makes the found state the known one.
func (d *workDiffer) adopt() error {
	d.w.known = d.found
	for _, rel := range d.touched {
		if err := d.w.remember(rel); err != nil {
			return err
		}
	}
	for _, t := range d.out.Times {
		rel, err := filepath.Rel(d.w.dir, t.Path)
		if err != nil {
			return err
		}
		if err := d.w.remember(rel); err != nil {
			return err
		}
	}
	return d.w.ready(d.w.root)
}
