package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// Tree is a folder on this machine as it was when it was looked at.
type Tree struct {
	Entries []Entry
	dir     string
	stream  stream
}

// Scan looks at a folder and all that is in it, as steps see that; the maker is theirs. It
// leaves out what has no place in a content. Whoever can write to the folder meanwhile
// cannot lead it elsewhere.
func Scan(ctx context.Context, dir string, maker *object.Maker) (*Tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	root := os.NewFile(uintptr(fd), dir)
	s := &scanner{maker: maker, links: map[inode]int{}}
	err = s.root(ctx, root)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	return &Tree{Entries: s.out, dir: dir, stream: newStream(s.out)}, nil
}

type inode struct{ dev, ino uint64 }

// scanner walks a tree by open folders: no name that it uses leads through another.
type scanner struct {
	maker *object.Maker
	out   []Entry
	links map[inode]int // of what has several names, the first one's entry
	depth int
}

// byName is a path that leads to an object in an open folder, wherever that is now.
func byName(dir *os.File, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name
}

func (s *scanner) root(ctx context.Context, dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if err := s.add(byName(dir, "."), "", -1, &st); err != nil {
		return err
	}
	return s.folder(ctx, dir, 0)
}

// folder adds what is in an open folder.
func (s *scanner) folder(ctx context.Context, dir *os.File, at int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.depth++; s.depth > maxDepth {
		return fmt.Errorf("folders in folders: %w", ErrLimit)
	}
	defer func() { s.depth-- }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.object(ctx, dir, name, at); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is gone again
			return err
		}
	}
	return nil
}

func (s *scanner) object(ctx context.Context, dir *os.File, name string, parent int) error {
	path := byName(dir, name)
	var st unix.Stat_t
	if err := object.Lstat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return s.add(path, name, parent, &st)
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	sub := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name))
	defer sub.Close()
	at := len(s.out)
	if err := s.add(path, name, parent, &st); err != nil {
		return err
	}
	return s.folder(ctx, sub, at)
}

// add adds one object, unless it is of a kind that is left out.
func (s *scanner) add(path, name string, parent int, st *unix.Stat_t) error {
	if len(s.out) == maxEntries {
		return fmt.Errorf("%d files: %w", maxEntries, ErrLimit)
	}
	m, _, err := s.maker.Describe(path, st)
	if err != nil {
		return err
	}
	e := Entry{Name: name, Parent: parent, Mode: m.Mode, UID: m.UID, GID: m.GID, ModTime: m.ModTime}
	switch m.Type {
	case manifest.TypeDir:
		e.Kind = KindDir
	case manifest.TypeFifo:
		e.Kind = KindFifo
	case manifest.TypeSymlink:
		e.Kind = KindLink
		if e.Target, err = os.Readlink(path); err != nil {
			return err
		}
	case manifest.TypeFile:
		e.Kind, e.Size = KindFile, m.Size
		if e.Size >= leastSparse && st.Blocks*512 < e.Size {
			if err := findHoles(path, &e); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if e.Kind != KindDir && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if first, ok := s.links[id]; ok {
			s.out = append(s.out, Entry{Name: name, Parent: parent, Kind: KindHard, File: first})
			return nil
		}
		s.links[id] = len(s.out)
	}
	for k, v := range m.Xattrs {
		if validXattr(k) && len(v) <= maxXattr && len(e.Xattrs) < maxXattrs {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[k] = v
		}
	}
	s.out = append(s.out, e)
	return nil
}

// leastSparse is how large a file is, in bytes, that is asked for holes.
const leastSparse = 64 << 10

// findHoles says where a file has bytes, unless it has too many holes.
func findHoles(path string, e *Entry) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var extents []Extent
	for end := int64(0); end < e.Size; {
		from, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && from >= e.Size { // a hole to the end
			break
		}
		if err == nil {
			end, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		}
		if err != nil || end <= from || len(extents) == maxExtents {
			return nil // it is taken as it is
		}
		end = min(end, e.Size)
		extents = append(extents, Extent{from, end - from})
	}
	if len(extents) == 1 && extents[0].Length == e.Size {
		return nil
	}
	e.Sparse, e.Extents = true, extents
	return nil
}

// Listing is that of the entries.
func (t *Tree) Listing() string { return string(Listing(t.Entries)) }

// paths are the paths of entries below a folder.
type paths struct {
	entries []Entry
	dirs    map[int]string
}

func newPaths(dir string, entries []Entry) *paths {
	p := &paths{entries, map[int]string{}}
	for i := range entries {
		switch e := &entries[i]; {
		case e.Parent < 0:
			p.dirs[i] = dir
		case e.Kind == KindDir:
			p.dirs[i] = filepath.Join(p.dirs[e.Parent], e.Name)
		}
	}
	return p
}

// of is the path of an entry.
func (p *paths) of(i int) string {
	e := &p.entries[i]
	if e.Kind == KindDir {
		return p.dirs[i]
	}
	return p.dirs[e.Parent] + string(filepath.Separator) + e.Name
}
