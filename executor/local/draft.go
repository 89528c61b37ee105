package local

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/sparse"
)

// emptyTree is scratch.
type emptyTree struct{}

func notExist(op, p string) error { return &fs.PathError{Op: op, Path: "/" + p, Err: fs.ErrNotExist} }

func (emptyTree) Lstat(p string) (*snapshot.Entry, error) {
	if p == "." {
		return &snapshot.Entry{Path: ".", Type: snapshot.TypeDir, Mode: 0o755}, nil
	}
	return nil, notExist("lstat", p)
}

func (emptyTree) ReadDir(p string) ([]*snapshot.Entry, error) {
	if p == "." {
		return nil, nil
	}
	return nil, notExist("readdir", p)
}

func (emptyTree) Open(p string) (io.ReadCloser, error)   { return nil, notExist("open", p) }
func (emptyTree) Digest(p string) (digest.Digest, error) { return "", notExist("digest", p) }

// draft is a file system that is being changed: a base and the changes so far.
// It reads as a snapshot.Tree. It is for one goroutine.
type draft struct {
	base    snapshot.Tree
	changes map[string]*snapshot.Change
	// children are the names of changes by directory.
	children map[string]map[string]bool
	// links are the hard links by path, with what they must still share when the
	// draft is finished.
	links map[string]*snapshot.Change
	// found is what is doubtful about the changes.
	found findings
}

func newDraft(base snapshot.Tree) *draft {
	return &draft{base: base, changes: map[string]*snapshot.Change{}, children: map[string]map[string]bool{}, links: map[string]*snapshot.Change{}}
}

// Lstat implements snapshot.Tree.
func (d *draft) Lstat(p string) (*snapshot.Entry, error) {
	if c, ok := d.changes[p]; ok {
		if c.Entry.Type == snapshot.TypeWhiteout {
			return nil, notExist("lstat", p)
		}
		return &c.Entry, nil
	}
	if d.hidden(p) {
		return nil, notExist("lstat", p)
	}
	return d.base.Lstat(p)
}

// hidden reports whether a change of a parent hides what the base has at p.
func (d *draft) hidden(p string) bool {
	for p != "." {
		p = path.Dir(p)
		if c, ok := d.changes[p]; ok && (c.Entry.Type != snapshot.TypeDir || c.Entry.Opaque) {
			return true
		}
	}
	return false
}

// ReadDir implements snapshot.Tree.
func (d *draft) ReadDir(p string) ([]*snapshot.Entry, error) {
	e, err := d.Lstat(p)
	if err != nil {
		return nil, err
	}
	if e.Type != snapshot.TypeDir {
		return nil, &fs.PathError{Op: "readdir", Path: "/" + p, Err: errors.New("not a directory")}
	}
	var out []*snapshot.Entry
	if !e.Opaque && !d.hidden(p) {
		below, err := d.base.ReadDir(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, b := range below {
			if !d.children[p][path.Base(b.Path)] {
				out = append(out, b)
			}
		}
	}
	for name := range d.children[p] {
		if c := d.changes[path.Join(p, name)]; c != nil && c.Entry.Type != snapshot.TypeWhiteout {
			out = append(out, &c.Entry)
		}
	}
	slices.SortFunc(out, func(a, b *snapshot.Entry) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

// Open implements snapshot.Tree.
func (d *draft) Open(p string) (io.ReadCloser, error) {
	if _, err := d.Lstat(p); err != nil {
		return nil, err
	}
	c, ok := d.changes[p]
	switch {
	case !ok:
		return d.base.Open(p)
	case c.Entry.Type != snapshot.TypeFile:
		return nil, &fs.PathError{Op: "open", Path: "/" + p, Err: errors.New("not a regular file")}
	case c.Open == nil:
		return io.NopCloser(strings.NewReader("")), nil
	}
	return c.Open()
}

// Digest implements snapshot.Tree.
func (d *draft) Digest(p string) (digest.Digest, error) {
	if c, ok := d.changes[p]; ok && c.Entry.Digest != "" {
		return c.Entry.Digest, nil
	}
	if _, ok := d.changes[p]; !ok {
		return d.base.Digest(p)
	}
	r, err := d.Open(p)
	if err != nil {
		return "", err
	}
	defer r.Close()
	return sparse.FromReader(r)
}

// put sets what is at a path. Whatever other type was there must have been
// removed before.
func (d *draft) put(e snapshot.Entry, open func() (io.ReadCloser, error)) {
	d.changes[e.Path] = &snapshot.Change{Entry: e, Open: open}
	delete(d.links, e.Path)
	d.found.put(&e)
	dir, name := path.Dir(e.Path), path.Base(e.Path)
	if e.Path == "." {
		return
	}
	if d.children[dir] == nil {
		d.children[dir] = map[string]bool{}
	}
	d.children[dir][name] = true
}

// link puts a file that shares its inode with the change at first. It reports
// false if that is no such file (any more).
func (d *draft) link(first string, e snapshot.Entry, open func() (io.ReadCloser, error)) bool {
	c, ok := d.changes[first]
	if ok && c.Entry.Hardlink != "" {
		first = c.Entry.Hardlink
		c, ok = d.changes[first]
	}
	if !ok || first == e.Path || c.Entry.Type != snapshot.TypeFile || !sameInode(&c.Entry, &e) {
		return false
	}
	d.put(e, open)
	d.changes[e.Path].Entry.Hardlink = first
	d.links[e.Path] = c
	return true
}

// hardlink puts another name of what is at first, which is no directory and is taken
// into the draft if it is in the base. What meta says of a file counts for all its names.
func (d *draft) hardlink(first string, meta snapshot.Entry) error {
	e, err := d.Lstat(first)
	if err != nil {
		return err
	}
	if _, ok := d.changes[first]; !ok {
		up := *e
		up.Hardlink = ""
		d.put(up, func() (io.ReadCloser, error) { return d.base.Open(first) })
	}
	inode := d.changes[first]
	if c, ok := d.links[first]; ok {
		inode = c
	}
	file := &inode.Entry
	file.Mode, file.UID, file.GID, file.ModTime, file.RealTime = meta.Mode, meta.UID, meta.GID, meta.ModTime, time.Time{}
	if len(meta.Xattrs) > 0 {
		xattrs := maps.Clone(meta.Xattrs)
		for k, v := range file.Xattrs {
			if _, ok := xattrs[k]; !ok {
				xattrs[k] = v
			}
		}
		file.Xattrs = xattrs
	}
	link := *file
	link.Path, link.Hardlink = meta.Path, file.Path
	d.put(link, inode.Open)
	d.links[meta.Path] = inode
	return nil
}

// sameInode reports whether two entries can be one file.
func sameInode(a, b *snapshot.Entry) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID
}

// relink gives all names of a file what was said of it last, and lets the hard links
// whose first file was replaced or removed later on name another one of them.
func (d *draft) relink() {
	heirs := map[*snapshot.Change]string{}
	for _, p := range slices.Sorted(maps.Keys(d.links)) {
		target, c := d.links[p], d.changes[p]
		e := target.Entry
		e.Path, e.Hardlink = p, c.Entry.Hardlink
		c.Entry = e
		if d.changes[c.Entry.Hardlink] == target {
			continue
		}
		if heir, ok := heirs[target]; ok {
			c.Entry.Hardlink = heir
			continue
		}
		c.Entry.Hardlink = ""
		heirs[target] = p
	}
}

// remove takes a path and all below it away.
func (d *draft) remove(p string) {
	for name := range d.children[p] {
		d.remove(path.Join(p, name))
		d.forget(path.Join(p, name))
	}
	d.forget(p)
	if _, err := d.base.Lstat(p); err == nil && !d.hidden(p) {
		d.put(snapshot.Entry{Path: p, Type: snapshot.TypeWhiteout}, nil)
	}
}

// forget drops a change.
func (d *draft) forget(p string) {
	delete(d.changes, p)
	delete(d.links, p)
	delete(d.children[path.Dir(p)], path.Base(p))
}

// opaque reports whether a path was removed, so that a new directory there must not
// show what the base has below it.
func (d *draft) opaque(p string) bool {
	c, ok := d.changes[p]
	return ok && c.Entry.Type == snapshot.TypeWhiteout
}

// mkdir puts one directory whose parent exists.
func (d *draft) mkdir(e snapshot.Entry) {
	e.Type, e.Opaque = snapshot.TypeDir, d.opaque(e.Path)
	d.put(e, nil)
}

// newDirs is what directories look like that a step makes by itself.
type newDirs struct {
	mode  uint32
	owner *owner // nil: root, or the group that they get from their parent
	at    time.Time
}

// setGroupID is the bit of a directory whose group is that of what is made in it.
const setGroupID = 0o2000

// born is something that a step makes by itself. As the kernel has it, it gets the group
// of a set-group-ID directory that it is made in, and a directory gets the bit. An owner
// that is asked for is given to it afterwards.
func (d *draft) born(e snapshot.Entry, own *owner) snapshot.Entry {
	if dir, err := d.Lstat(path.Dir(e.Path)); err == nil && dir.Mode&setGroupID != 0 {
		e.GID = dir.GID
		if e.Type == snapshot.TypeDir {
			e.Mode |= setGroupID
		}
	}
	if own != nil {
		e.UID, e.GID = own.uid, own.gid
	}
	return e
}

// mkdirAll makes the directories of a path that do not exist, like mkdir -p. The path
// must be free of symlinks.
func (d *draft) mkdirAll(p string, like newDirs) error {
	e, err := d.Lstat(p)
	if err == nil {
		if e.Type != snapshot.TypeDir {
			return &fs.PathError{Op: "mkdir", Path: "/" + p, Err: errors.New("not a directory")}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.mkdirAll(path.Dir(p), like); err != nil {
		return err
	}
	d.mkdirNew(p, like)
	return nil
}

// mkdirNew makes one directory whose parent exists.
func (d *draft) mkdirNew(p string, like newDirs) {
	d.mkdir(d.born(snapshot.Entry{Path: p, Type: snapshot.TypeDir, Mode: like.mode, ModTime: like.at}, like.owner))
}

// finish returns all changes, with the parent directories that a file system
// would have copied up for them, sorted by path.
func (d *draft) finish() ([]snapshot.Change, error) {
	d.relink()
	for p := range d.changes {
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			if _, ok := d.changes[dir]; !ok && dir != "." {
				e, err := d.base.Lstat(dir)
				if err != nil {
					return nil, err
				}
				up := *e
				up.Opaque = false
				d.changes[dir] = &snapshot.Change{Entry: up}
			}
			if dir == "." {
				break
			}
		}
	}
	out := make([]snapshot.Change, 0, len(d.changes))
	for _, c := range d.changes {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b snapshot.Change) int { return cmp.Compare(a.Entry.Path, b.Entry.Path) })
	return out, nil
}

var _ snapshot.Tree = (*draft)(nil)
