package emulate

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/owner"
)

func (s *supervisor) fchown(n *notification) answer {
	return s.chownPath(n, at{dir: int32(n.args[0]), empty: true}, n.args[1], n.args[2], true)
}

func (s *supervisor) fchownat(n *notification) answer {
	return s.chownPath(n, atDir(n.args[0], n.args[1], n.args[4]), n.args[2], n.args[3], n.args[4]&unix.AT_SYMLINK_NOFOLLOW == 0)
}

func (s *supervisor) chownPath(n *notification, a at, uid, gid uint64, follow bool) answer {
	through, errno := s.place(n, a)
	if errno != 0 {
		return fails(errno)
	}
	if follow && !through {
		s.replaceStandardFile(n.pid)
	}
	file, errno := s.openPlaced(follow || through)
	if errno != 0 {
		return fails(errno)
	}
	defer unix.Close(file)
	if err := s.home(); err != nil {
		return fails(unix.EPERM)
	}
	return fails(s.chownFile(n, file, uint32(uid), uint32(gid)))
}

// replaceStandardFile makes s.path lead to an open file of the process where it goes
// by way of /proc/self, which is somebody else's here.
func (s *supervisor) replaceStandardFile(pid uint32) {
	if !bytes.HasPrefix(s.path[:], []byte("/dev/")) && !bytes.HasPrefix(s.path[:], []byte("/proc/self/")) {
		return
	}
	if fd, ok := standardFile(s.pathString()); ok {
		s.placeFD(pid, fd)
	}
}

// standardFile recognises names that lead to an open file of whoever asks.
func standardFile(path string) (int32, bool) {
	switch path {
	case "/dev/stdin":
		return 0, true
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if number, ok := strings.CutPrefix(path, dir); ok {
			fd, err := strconv.ParseInt(number, 10, 32)
			return int32(fd), err == nil
		}
	}
	return 0, false
}

// chownFile changes an owner. The kernel does all but that: it looks whether the file
// may be changed, copies it up, and takes set-user-ID bits and capabilities away.
func (s *supervisor) chownFile(n *notification, file int, uid, gid uint32) unix.Errno {
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil {
		return errnoOf(err)
	}
	rec, had := s.recordOf(file)
	if !had {
		rec, had = s.linkOf(file)
	}
	was := owner.Stat{}
	if had {
		was = rec
	}
	newUID, newGID, err := s.creds.of(n.pid).Chown(was.UID, was.GID, uid, gid)
	if err != nil {
		return errnoOf(err)
	}
	if !s.valid(n) {
		return unix.ENOENT
	}
	err = unix.Fchownat(file, "", 0, 0, unix.AT_EMPTY_PATH)
	if isDevice(st.Mode) && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL)) {
		return 0 // one of this machine, that is only bound here
	}
	if err != nil {
		return errnoOf(err)
	}
	// What the change of owner did to the mode has to be in the record.
	if err := unix.Fstat(file, &st); err != nil {
		return errnoOf(err)
	}
	if carriesNoRecord(st.Mode) {
		s.ownLink(file, st.Mode, newUID, newGID)
		return 0
	}
	now, needed := rec.Owned(&st, newUID, newGID)
	if !needed && !had {
		return 0
	}
	return s.writeRecord(file, now, needed)
}

func isDevice(mode uint32) bool {
	kind := mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// recordOf reads what is recorded of a file. The thread is in /proc.
func (s *supervisor) recordOf(file int) (owner.Stat, bool) {
	copy(s.path[:], own(file)+"\x00")
	return s.placedRecord(true)
}

// writeRecord records an owner for a file, or takes its record away if it needs none.
// The thread is in /proc.
func (s *supervisor) writeRecord(file int, rec owner.Stat, needed bool) unix.Errno {
	var err error
	if needed {
		err = unix.Setxattr(own(file), owner.Xattr, []byte(rec.String()), 0)
	} else {
		err = unix.Removexattr(own(file), owner.Xattr)
	}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENODATA):
		return 0 // a symlink, or a file system without attributes
	default:
		return errnoOf(err)
	}
}
