package unpack

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/tree"
)

// lower returns the merged view of the layers below, waiting for them.
func (a *applier) lower() (tree.Tree, error) {
	if a.below == nil {
		t, err := a.Lower(a.ctx)
		if err != nil {
			return nil, fmt.Errorf("look into the layers below: %w", err)
		}
		a.below = t
	}
	return a.below, nil
}

// Lstat is Tree's, for the layer as read so far on top of those below.
func (a *applier) Lstat(p string) (*manifest.Entry, error) {
	if n, ok := a.nodes[p]; ok {
		return &n.entry, nil
	}
	for d := p; d != "."; d = path.Dir(d) {
		n, ok := a.nodes[d]
		if a.whiteouts[d] || a.opaque[path.Dir(d)] || (ok && n.entry.Type != manifest.TypeDir) {
			return nil, tree.NotExist("lstat", p)
		}
	}
	a.looked = true
	if !a.Based {
		return nil, tree.NotExist("lstat", p)
	}
	t, err := a.lower()
	if err != nil {
		return nil, err
	}
	return t.Lstat(p)
}

// view makes the applier's Lstat usable with ResolvePath.
type view struct {
	tree.Tree // nothing else is called
	a         *applier
}

// Lstat implements Tree.
func (v view) Lstat(p string) (*manifest.Entry, error) { return v.a.Lstat(p) }

// ensureDir makes sure that the layer has a directory for entries below p, and
// returns its path without symlinks. A directory that has no entry of its own is
// as in the layers below, or root's with mode 0755 if they have none.
func (a *applier) ensureDir(p string, depth int) (string, error) {
	if p == "." {
		return ".", nil
	}
	if n, ok := a.nodes[p]; ok && n.entry.Type == manifest.TypeDir {
		return p, nil
	}
	if depth > tree.MaxLinks {
		return "", syscall.ELOOP
	}
	parent, err := a.ensureDir(path.Dir(p), depth)
	if err != nil {
		return "", err
	}
	p = path.Join(parent, path.Base(p))
	if n, ok := a.nodes[p]; ok && n.entry.Type == manifest.TypeDir {
		return p, nil
	}
	e, err := a.Lstat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e = &manifest.Entry{Type: manifest.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}
	case err != nil:
		return "", err
	case e.Type == manifest.TypeSymlink:
		target, err := tree.ResolvePath(view{a: a}, p, true)
		if err != nil {
			return "", err
		}
		return a.ensureDir(target, depth+1)
	case e.Type != manifest.TypeDir:
		return "", fmt.Errorf("%s is no directory", p)
	}
	n := &node{entry: *e, file: -1}
	n.entry.Path, n.entry.Opaque = p, false
	if err := a.Maker.Create(a.host(p), &n.entry); err != nil {
		return "", err
	}
	a.nodes[p] = n
	return p, nil
}

// hardlink makes a link to a file of this layer, or of one below: then the file
// comes into this layer under both names, as overlay would do it.
func (a *applier) hardlink(e manifest.Entry) error {
	target, err := cleanName(e.Hardlink)
	if err != nil {
		return fmt.Errorf("link to %q: %w", e.Hardlink, err)
	}
	dir, err := tree.ResolvePath(view{a: a}, path.Dir(target), true)
	if err != nil {
		return err
	}
	target = path.Join(dir, path.Base(target))
	if target == e.Path {
		return nil // a link to itself changes nothing
	}
	n, ok := a.nodes[target]
	if !ok {
		if n, err = a.takeUp(target, &e); err != nil {
			return fmt.Errorf("link to %q: %w", e.Hardlink, err)
		}
	}
	if n.entry.Type == manifest.TypeDir {
		return fmt.Errorf("link to %q: it is a directory", e.Hardlink)
	}
	if n.ino != nil && n.ino.writing {
		if err := a.pool.wait(); err != nil {
			return err
		}
	}
	if a.nodes[e.Path] != nil {
		if err := a.drop(e.Path); err != nil {
			return err
		}
	}
	if err := unix.Linkat(unix.AT_FDCWD, a.host(target), unix.AT_FDCWD, a.host(e.Path), 0); err != nil {
		return fmt.Errorf("link to %q: %w", e.Hardlink, err)
	}
	link := &node{entry: n.entry, ino: n.ino, file: -1}
	link.entry.Path = e.Path
	if a.Own { // what the packer was told of the link
		link.entry.Mode, link.entry.UID, link.entry.GID, link.entry.ModTime = e.Mode, e.UID, e.GID, e.ModTime
	}
	a.nodes[e.Path] = link
	if n.entry.Type == manifest.TypeSymlink {
		e.Mode = n.entry.Mode
	}
	if a.Own || n.ino == nil || !n.change(&e) {
		return nil
	}
	return a.Maker.ChangeMeta(a.host(e.Path), n.ino.last)
}

// change notes what the header of a hard link says of the file, of all whose names it
// counts. It reports whether that is something new.
func (n *node) change(e *manifest.Entry) bool {
	now := n.entry
	if n.ino.last != nil {
		now = *n.ino.last
	}
	if isLike(&now, e) {
		return false
	}
	now.Mode, now.UID, now.GID, now.ModTime, now.RealTime = e.Mode, e.UID, e.GID, e.ModTime, time.Time{}
	xattrs := maps.Clone(now.Xattrs)
	for k, v := range e.Xattrs {
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[k] = v
	}
	now.Xattrs = xattrs
	n.ino.last = &now
	return true
}

// isLike reports whether a file is as the header of a hard link to it says.
func isLike(file, link *manifest.Entry) bool {
	for k, v := range link.Xattrs {
		if has, ok := file.Xattrs[k]; !ok || has != v {
			return false
		}
	}
	return file.Mode == link.Mode && file.UID == link.UID && file.GID == link.GID && file.ModTime.Equal(link.ModTime)
}

// takeUp brings an object of the layers below into this layer, for a link to it.
func (a *applier) takeUp(p string, link *manifest.Entry) (*node, error) {
	e, err := a.Lstat(p)
	if err != nil {
		return nil, err
	}
	if e.Type == manifest.TypeDir {
		return nil, errors.New("it is a directory")
	}
	if _, err := a.ensureDir(path.Dir(p), 0); err != nil {
		return nil, err
	}
	if e.Type != manifest.TypeFile {
		n := &node{entry: *e, ino: &fileInode{}, file: -1}
		n.entry.Hardlink = ""
		a.nodes[p] = n
		if err := a.Maker.Create(a.host(p), &n.entry); err != nil {
			return nil, err
		}
		return n, a.Maker.SetMeta(a.host(p), &n.entry)
	}
	sum, err := a.below.Digest(p)
	if err != nil {
		return nil, err
	}
	n := &node{entry: *e, ino: &fileInode{digest: sum, size: e.Size}, file: -1}
	n.entry.Hardlink, n.entry.Digest = "", ""
	if err := a.share(p, e, a.Own || isLike(e, link)); err != nil {
		return nil, err
	}
	a.nodes[p] = n
	return n, nil
}

// share brings a file of a layer below on disk, as a link if it stays as it is there:
// nobody ever changes it.
func (a *applier) share(p string, e *manifest.Entry, same bool) (err error) {
	if host, ok := a.below.(tree.HostPather).HostPath(p); same && ok && unix.Link(host, a.host(p)) == nil {
		return nil
	}
	r, err := a.below.Open(p)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := object.CreateFile(a.host(p))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return a.Maker.SetFileMeta(f, e)
}

// drop removes an object that a later entry replaces, with all below it. Contents
// that the tar needs to be rebuilt are set aside.
func (a *applier) drop(p string) error {
	if err := a.pool.wait(); err != nil {
		return err
	}
	n := a.nodes[p]
	if n.entry.Type == manifest.TypeDir {
		for q := range a.nodes {
			if manifest.IsBelow(q, p) {
				if err := a.setAside(q); err != nil {
					return err
				}
			}
		}
	}
	if err := a.setAside(p); err != nil {
		return err
	}
	return files.RemoveAll(a.host(p))
}

func (a *applier) setAside(p string) error {
	n := a.nodes[p]
	delete(a.nodes, p)
	if n.file < 0 {
		return nil
	}
	if err := os.Mkdir(a.Dup, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(a.host(p), filepath.Join(a.Dup, strconv.Itoa(n.file)))
}
