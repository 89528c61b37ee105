package source

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

// scan reads a directory and looks at its children.
func (t *Tree) scan(dir string, matched []bool) (*dirNode, error) {
	f, err := openBeneath(t.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("read directory /%s: %w", dir, gone(err))
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("read directory /%s: %w", dir, gone(err))
	}
	slices.Sort(names)
	d := &dirNode{nodes: make([]*node, 0, len(names)), matched: matched}
	known := t.index.dir(dir)
	used := 0
	// One piece of memory for all children: there may be very many.
	made := make([]struct {
		node  node
		entry snapshot.Entry
	}, len(names))
	for i, name := range names {
		made[i].node.entry = &made[i].entry
		n, hit, err := t.look(f, dir, name, matched, known, &made[i].node)
		if err != nil {
			return nil, err
		}
		if n == nil {
			continue
		}
		d.nodes = append(d.nodes, n)
		if hit {
			used++
		} else if n.entry.Type != snapshot.TypeFile {
			d.changed = true
		}
	}
	if used != len(known) {
		d.changed = true
	}
	return t.keep(dir, d), nil
}

// look examines one child, of which it makes n; it returns nil if it is excluded. Hit
// says that the index knew it.
func (t *Tree) look(f *os.File, dir, name string, matched []bool, known dirIndex, n *node) (_ *node, hit bool, err error) {
	p, depth := name, 1
	if dir != "." {
		p = dir + "/" + name
		depth = strings.Count(p, "/") + 1
	}
	excluded, _ := t.ignore.match(p, depth, matched, false)
	if excluded && !t.ignore.mayReinclude(p) {
		return nil, false, nil
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT: // it has gone since it was listed
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("look at /%s: %w", p, err)
	}
	n.name, n.stat = name, statOf(&st)
	fillEntry(n.entry, p, &st)
	if g := t.given[p]; g != nil {
		g.apply(n.entry)
	}
	if excluded {
		if n.entry.Type != snapshot.TypeDir {
			return nil, false, nil
		}
		// The directory is only here for what is re-included below it.
		_, below := t.ignore.match(p, depth, matched, true)
		sub, err := t.scan(p, below)
		if err != nil || len(sub.nodes) == 0 {
			return nil, false, err
		}
	}
	if rec, ok := known.find(name); ok && rec.stat == n.stat.key() {
		n.entry.Digest, n.entry.Xattrs = rec.digest, rec.xattrs
		hit = true
	} else if n.entry.Xattrs, err = xattrs(fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), name)); err != nil {
		return nil, false, fmt.Errorf("read attributes of /%s: %w", p, gone(err))
	}
	switch {
	case n.entry.Type == snapshot.TypeSymlink:
		if n.entry.Linkname, err = readlinkAt(f, name); err != nil {
			return nil, false, fmt.Errorf("read link /%s: %w", p, gone(err))
		}
	case n.stat.isSocket():
		n.entry.Digest = emptyDigest
	}
	return n, hit, nil
}

// fileStat is what tells whether a file is still the same.
type fileStat struct {
	statKey
	nlink uint64
}

// statKey is the part of it that the index keeps. A change of the content cannot
// leave all of it the same, but within the granularity of the clock: see racy.
type statKey struct {
	size         int64
	mtime, ctime int64 // ns
	ino, dev     uint64
	mode         uint32
}

func statOf(st *unix.Stat_t) fileStat {
	return fileStat{statKey{
		size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
		ino: st.Ino, dev: uint64(st.Dev), mode: st.Mode,
	}, uint64(st.Nlink)}
}

func (s fileStat) key() statKey   { return s.statKey }
func (s fileStat) isSocket() bool { return s.mode&unix.S_IFMT == unix.S_IFSOCK }

// racy reports whether a file that looked like this at a time could have changed
// just afterwards without looking different.
func (s statKey) racy(at time.Time) bool {
	granularity := 20 * time.Millisecond // some ticks of a coarse kernel clock
	if s.ctime%int64(time.Second) == 0 { // a file system that counts seconds
		granularity = 2 * time.Second
	}
	return max(s.mtime, s.ctime) > at.Add(-granularity).UnixNano()
}

// fillEntry says what stat(2) found.
func fillEntry(e *snapshot.Entry, p string, st *unix.Stat_t) {
	*e = snapshot.Entry{Path: p, Mode: st.Mode & 0o7777, ModTime: time.Unix(0, st.Mtim.Nano())}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = snapshot.TypeDir
	case unix.S_IFLNK:
		e.Type, e.Mode = snapshot.TypeSymlink, 0o777
	case unix.S_IFIFO:
		e.Type = snapshot.TypeFifo
	case unix.S_IFCHR:
		e.Type = snapshot.TypeChar
	case unix.S_IFBLK:
		e.Type = snapshot.TypeBlock
	case unix.S_IFSOCK:
		e.Type = snapshot.TypeFile
	default:
		e.Type, e.Size = snapshot.TypeFile, st.Size
	}
	if e.Type == snapshot.TypeChar || e.Type == snapshot.TypeBlock {
		e.DevMajor, e.DevMinor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	}
}

// xattrs reads the extended attributes of a path.
func (t *Tree) xattrs(p string) (map[string]string, error) {
	dir, err := openBeneath(t.root, path.Dir(p), unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		defer dir.Close()
		var attrs map[string]string
		if attrs, err = xattrs(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), path.Base(p))); err == nil {
			return attrs, nil
		}
	}
	return nil, fmt.Errorf("read attributes of /%s: %w", p, gone(err))
}

// xattrs reads the extended attributes that images keep: those of users and file
// capabilities.
func xattrs(p string) (map[string]string, error) {
	buf := make([]byte, 256)
	n, err := unix.Llistxattr(p, buf)
	if err == unix.ERANGE {
		buf = make([]byte, 64<<10) // the kernel's limit
		n, err = unix.Llistxattr(p, buf)
	}
	if err == unix.ENOTSUP || err == unix.EPERM || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		val := make([]byte, 64<<10)
		k, err := unix.Lgetxattr(p, name, val)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(val[:k])
	}
	return out, nil
}

func readlinkAt(dir *os.File, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// lstatAt describes a path below root without following symlinks.
func lstatAt(root *os.File, p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	dir, err := openBeneath(root, path.Dir(p), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return st, err
	}
	defer dir.Close()
	return st, unix.Fstatat(int(dir.Fd()), path.Base(p), &st, unix.AT_SYMLINK_NOFOLLOW)
}
