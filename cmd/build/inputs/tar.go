package inputs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/local"
	"layered.build/builder/executor/source"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/archive"
	"layered.build/builder/snapshot/manifest"
)

// unpacked is what is known of the files of an archive beside themselves.
type unpacked struct {
	newest time.Time                // of all regular files
	given  map[string]*source.Given // by path; hard links share one
}

// tarContext extracts a tar of a build context. Nothing is written outside of root, and
// nobody else writes to it.
type tarContext struct {
	unpacked
	root  *os.Root
	place archive.Place
	// found are the directories and symlinks that were made.
	found map[string]archive.Found
	dirs  []dirTime // set at last, for what is made in them changes their times
}

type dirTime struct {
	path string
	time time.Time
}

// unpackContext extracts a tar of a build context, compressed or not, into dir, which is
// empty.
func unpackContext(ctx context.Context, dir string, r io.Reader) (*unpacked, error) {
	plain, err := local.PlainTar(ctx, r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	c := &tarContext{root: root, unpacked: unpacked{given: map[string]*source.Given{}}, found: map[string]archive.Found{}}
	c.place = archive.Place{Look: c.look, Mkdir: c.mkdir}
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return &c.unpacked, c.finish()
		}
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // it only looks like an entry: its name means nothing
		}
		if err := c.entry(h, tr); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// look implements archive.Place.
func (c *tarContext) look(p string) (archive.Found, error) {
	if f, ok := c.found[p]; ok {
		return f, nil
	}
	_, err := c.root.Lstat(p)
	return archive.Found{}, err
}

// mkdir implements archive.Place.
func (c *tarContext) mkdir(p string) error {
	c.found[p] = archive.Found{Dir: true}
	return c.root.Mkdir(p, 0o755)
}

func (c *tarContext) entry(h *tar.Header, r io.Reader) error {
	p, err := c.place.Entry(h.Name)
	if err != nil || p == "." {
		return err
	}
	if h.Typeflag == tar.TypeReg && h.ModTime.After(c.newest) {
		c.newest = h.ModTime.UTC()
	}
	if f := c.found[p]; !f.Dir || h.Typeflag != tar.TypeDir {
		if err := c.remove(p); err != nil {
			return err
		}
	}
	dir, err := c.root.Open(path.Dir(p))
	if err != nil {
		return err
	}
	defer dir.Close()
	g := &source.Given{}
	if h.Typeflag == tar.TypeLink {
		if g, err = c.link(p, h.Linkname); err != nil {
			return err
		}
	} else if err := c.make(object{dir, path.Base(p)}, p, h, r); err != nil {
		return err
	}
	g.UID, g.GID = uint32(h.Uid), uint32(h.Gid)
	c.given[p] = g
	return c.meta(object{dir, path.Base(p)}, p, h)
}

// object is a name in a directory. It is used for what os.Root cannot do: nothing that
// was made by the archive is followed.
type object struct {
	dir  *os.File
	name string
}

func (o object) fd() int { return int(o.dir.Fd()) }

// remove makes way for an entry.
func (c *tarContext) remove(p string) error {
	_, err := c.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if c.found[p].Dir {
		for q := range c.found {
			if manifest.IsBelow(q, p) {
				delete(c.found, q)
			}
		}
		for q := range c.given {
			if manifest.IsBelow(q, p) {
				delete(c.given, q)
			}
		}
	}
	delete(c.found, p)
	delete(c.given, p)
	return errors.Join(err, c.root.RemoveAll(p))
}

// make makes what an entry describes, unless it is a hard link.
func (c *tarContext) make(o object, p string, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if c.found[p].Dir {
			return nil
		}
		return c.mkdir(p)
	case tar.TypeReg:
		f, err := c.root.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		c.found[p] = archive.Found{Link: h.Linkname}
		return c.root.Symlink(h.Linkname, p)
	case tar.TypeFifo:
		return unix.Mkfifoat(o.fd(), o.name, 0o600)
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		err := unix.Mknodat(o.fd(), o.name, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
		if errors.Is(err, unix.EPERM) {
			return unix.Mknodat(o.fd(), o.name, unix.S_IFREG|0o600, 0)
		}
		return err
	}
	return fmt.Errorf("a context cannot hold an entry of type %q", string(h.Typeflag))
}

// link makes a hard link and returns what is known of the file.
func (c *tarContext) link(p, name string) (*source.Given, error) {
	first, err := c.place.Target(name)
	if err != nil {
		return nil, fmt.Errorf("link to %s: %w", name, err)
	}
	if f, ok := c.found[first]; ok {
		c.found[p] = f
	}
	return c.given[first], c.root.Link(first, p)
}

// meta gives an object what its entry says, and notes what it cannot be given. A hard
// link's entry speaks of the file, so that the last one counts.
func (c *tarContext) meta(o object, p string, h *tar.Header) error {
	var st unix.Stat_t
	if err := unix.Fstatat(o.fd(), o.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind, mode := st.Mode&unix.S_IFMT, uint32(h.Mode)&0o7777
	mode = standIn(c.given[p], h, kind, mode)
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			err := unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", o.fd(), o.name), name, []byte(v), 0)
			if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}
	if kind != unix.S_IFLNK {
		if err := unix.Fchmodat(o.fd(), o.name, mode, 0); err != nil {
			return err
		}
	}
	if kind == unix.S_IFDIR {
		c.dirs = append(c.dirs, dirTime{p, h.ModTime})
		return nil
	}
	at := unix.NsecToTimespec(h.ModTime.UnixNano())
	return unix.UtimesNanoAt(o.fd(), o.name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// standIn notes where the object of a kind that was made is not the one that its entry
// speaks of, and returns the mode that it gets.
func standIn(g *source.Given, h *tar.Header, kind, mode uint32) uint32 {
	isDevice := g.Type == snapshot.TypeChar || g.Type == snapshot.TypeBlock // and this is a link to it
	if kind == unix.S_IFREG && (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) {
		isDevice, g.Type, g.DevMajor, g.DevMinor = true, snapshot.TypeChar, h.Devmajor, h.Devminor
		if h.Typeflag == tar.TypeBlock {
			g.Type = snapshot.TypeBlock
		}
	}
	if g.Mode = mode; isDevice {
		return mode
	}
	g.Type = 0
	switch {
	case kind == unix.S_IFDIR && mode&0o700 != 0o700:
		g.Type, mode = snapshot.TypeDir, mode|0o700
	case kind == unix.S_IFREG && mode&0o400 == 0:
		g.Type, mode = snapshot.TypeFile, mode|0o400
	default:
		g.Mode = 0
	}
	return mode
}

// finish sets the times of directories and forgets what there is nothing to say of.
func (c *tarContext) finish() error {
	for p, g := range c.given {
		if *g == (source.Given{}) {
			delete(c.given, p)
		}
	}
	for _, d := range c.dirs {
		if !c.found[d.path].Dir {
			continue // a later entry replaced it
		}
		if err := c.root.Chtimes(d.path, d.time, d.time); err != nil {
			return err
		}
	}
	return nil
}

// hasOwners reports whether anything belongs to others than root.
func (c *buildContext) hasOwners() bool {
	for _, g := range c.given {
		if g.UID != 0 || g.GID != 0 {
			return true
		}
	}
	return false
}
