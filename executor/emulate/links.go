package emulate

import (
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/owner"
)

// links holds the owners of what cannot carry a record: symlinks and fifos of the
// container's upper directory. They are known by inode, which renaming keeps.
type links struct {
	upper int // descriptor of the upper directory, -1 if there is none
	known map[owner.Inode]owner.Stat
}

func openLinks(upper string) links {
	l := links{upper: -1, known: map[owner.Inode]owner.Stat{}}
	if upper == "" {
		return l
	}
	if fd, err := unix.Open(upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		l.upper = fd
	}
	return l
}

func (l *links) close() {
	if l.upper >= 0 {
		unix.Close(l.upper)
	}
}

func carriesNoRecord(mode uint32) bool {
	kind := mode & unix.S_IFMT
	return kind == unix.S_IFLNK || kind == unix.S_IFIFO
}

// inode finds an object of the container in the upper directory; false if it is not
// there.
func (s *supervisor) inode(file int) (owner.Inode, bool) {
	if s.links.upper < 0 {
		return owner.Inode{}, false
	}
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(s.proc, own(file), buf)
	if err != nil || size == len(buf) {
		return owner.Inode{}, false
	}
	path := strings.TrimPrefix(string(buf[:size]), "/")
	fd, err := unix.Openat2(s.links.upper, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return owner.Inode{}, false
	}
	defer unix.Close(fd)
	i, err := owner.InodeOf(fd, "")
	return i, err == nil
}

// ownLink notes the owner of a symlink or fifo.
func (s *supervisor) ownLink(file int, mode, uid, gid uint32) {
	i, ok := s.inode(file)
	switch {
	case !ok:
	case uid == 0 && gid == 0:
		delete(s.links.known, i)
	default:
		s.links.known[i] = owner.Stat{UID: uid, GID: gid, Mode: mode}
	}
}

// placedLink is placedRecord for what ownLink noted.
func (s *supervisor) placedLink(follow bool) (owner.Stat, bool) {
	file, errno := s.openPlaced(follow)
	if errno != 0 {
		return owner.Stat{}, false
	}
	defer unix.Close(file)
	return s.linkOf(file)
}

// linkOf is what ownLink noted of a file.
func (s *supervisor) linkOf(file int) (owner.Stat, bool) {
	var st unix.Stat_t
	if unix.Fstat(file, &st) != nil || !carriesNoRecord(st.Mode) {
		return owner.Stat{}, false
	}
	i, ok := s.inode(file)
	if !ok {
		return owner.Stat{}, false
	}
	rec, ok := s.links.known[i]
	return rec, ok
}
