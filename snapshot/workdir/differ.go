package workdir

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/diff"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/sparse"
	"layered.build/builder/snapshot/tree"
)

// Differ finds the entries of the layer that a working directory became, by the same
// rules as diff.Overlay: what is no different from the layers below is in no entry.
type Differ struct {
	out   diff.Emitter
	w     *Dir
	lower *tree.Merged
	// found is the state of all objects; of those in touched it has to be read again
	// when the directory is settled.
	found   map[string]state
	touched []string
	// linked says of files with several names whether some were in no entry (1) and
	// whether some were (2).
	linked map[fileID]int
	// unchanged are the names that were in no entry, of files with several.
	unchanged []unchangedName
}

type unchangedName struct {
	rel string
	st  unix.Stat_t
}

// Diff compares a directory with the stack that it was equal to, which lower is; times
// are limited to the epoch, unless it is nil. It is used once: Walk, Settle, then Adopt
// if the directory is to be used again and is not Torn.
func (w *Dir) Diff(lower *tree.Merged, epoch *time.Time) *Differ {
	return &Differ{w: w, lower: lower, out: diff.NewEmitter(epoch, lower), found: make(map[string]state, len(w.known))}
}

// Walk finds the entries; it is a pack.Walk.
func (d *Differ) Walk(ctx context.Context, emit func(pack.Item) error) error {
	d.out.Begin(emit)
	return d.dir(ctx, &diff.Folder{Rel: "."}, true, false)
}

// dir handles what is in a directory. hasLower says that the layers below have it;
// intact that nothing was made or removed in it.
func (d *Differ) dir(ctx context.Context, f *diff.Folder, hasLower, intact bool) error {
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
func (d *Differ) withGone(dir string, names []string) ([]string, map[string]bool, error) {
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

func (d *Differ) object(ctx context.Context, f *diff.Folder, rel string) error {
	host := d.w.host(rel)
	raw := new(unix.Stat_t)
	if err := object.Lstat(host, raw); err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	known, was := d.w.known[rel]
	if was && d.w.untouched(known, raw) {
		d.found[rel] = known
		if known.mode&unix.S_IFMT == unix.S_IFDIR {
			return d.directory(ctx, &diff.Folder{Rel: rel, Parent: f}, manifest.Entry{}, dirFacts{same: true, hasLower: true, intact: true})
		}
		d.note(rel, raw, 1)
		return nil
	}
	st, err := d.w.m.Lstat(host)
	if err != nil {
		return fmt.Errorf("stat %s: %w", host, err)
	}
	return d.maybeChanged(ctx, f, rel, st)
}

func (d *Differ) maybeChanged(ctx context.Context, f *diff.Folder, rel string, st *unix.Stat_t) error {
	host := d.w.host(rel)
	e := object.StatEntry(st)
	e.Path = rel
	if e.Type == manifest.TypeSocket || e.Type == manifest.TypeWhiteout {
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
	if e.Type == manifest.TypeSymlink {
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
	if e.Type == manifest.TypeDir {
		d.found[rel] = stateOf(st)
		wasDir := was && known.mode&unix.S_IFMT == unix.S_IFDIR
		return d.directory(ctx, &diff.Folder{Rel: rel, Parent: f}, e, dirFacts{same: same, hasLower: wasDir})
	}
	d.found[rel] = stateOf(st)
	if same {
		d.note(rel, st, 1)
		return nil
	}
	d.note(rel, st, 2)
	d.touched = append(d.touched, rel)
	return d.out.Changed(f, host, st, e)
}

type fileID struct{ dev, ino uint64 }

// note remembers of files with several names whether they are in entries.
func (d *Differ) note(rel string, st *unix.Stat_t, how int) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if how == 1 {
			d.unchanged = append(d.unchanged, unchangedName{rel, *st})
		}
		if d.linked == nil {
			d.linked = map[fileID]int{}
		}
		d.linked[fileID{st.Dev, st.Ino}] |= how
	}
}

// Aliases are further names of the entries: hard links that were made to what the layers
// below have.
func (d *Differ) Aliases() []tree.Alias {
	var out []tree.Alias
	for _, u := range d.unchanged {
		if entry, ok := d.out.Entry(&u.st); ok {
			out = append(out, tree.Alias{Path: u.rel, Entry: entry})
		}
	}
	return out
}

// Torn reports whether a file is in the new layer by one name and in a lower one by
// another. On other layers they would be two files, so that the directory cannot
// stand in for them.
func (d *Differ) Torn() bool {
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

func (d *Differ) directory(ctx context.Context, f *diff.Folder, e manifest.Entry, is dirFacts) error {
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

func (d *Differ) intact(ctx context.Context, f *diff.Folder) error {
	var e manifest.Entry
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
func (d *Differ) entry(rel string) (manifest.Entry, error) {
	k := d.w.known[rel]
	e := manifest.Entry{Path: rel, Type: manifest.TypeDir, Mode: k.mode & 0o7777, UID: k.uid, GID: k.gid, ModTime: timeOf(k.mtime)}
	below, err := d.lower.Lstat(rel)
	if err != nil {
		return e, err
	}
	e.RealTime = below.RealTime
	e.Xattrs, _, err = object.ReadXattrs(d.w.host(rel))
	return e, err
}

func timeOf(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

func (d *Differ) setTime(rel, host string, t time.Time) {
	d.out.Times = append(d.out.Times, diff.Stamp{Path: host, Time: t})
	d.touched = append(d.touched, rel)
}

// same is sameObject, by what is known of the object below.
func (d *Differ) same(k state, st *unix.Stat_t, e *manifest.Entry) (bool, error) {
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
	if e.Type == manifest.TypeDir {
		return true, nil
	}
	if k.size != st.Size || k.mtime != st.Mtim {
		return false, nil
	}
	if st.Mtim.Nsec != 0 {
		return true, nil
	}
	switch e.Type {
	case manifest.TypeSymlink:
		return below.Linkname == e.Linkname, nil
	case manifest.TypeFile:
		return d.sameBytes(e.Path)
	}
	return true, nil
}

func (d *Differ) sameBytes(rel string) (bool, error) {
	want, err := d.lower.Digest(rel)
	if err != nil {
		return false, err
	}
	f, err := os.Open(d.w.host(rel))
	if err != nil {
		return false, err
	}
	defer f.Close()
	return sparse.Matches(f, want)
}

// Settle makes the directory equal to the stack with the new layer. Nothing may read it
// any more.
func (d *Differ) Settle() error {
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

// Adopt makes the found state the known one, so that the directory can be used on.
func (d *Differ) Adopt() error {
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
	return d.w.Ready(d.w.root)
}
