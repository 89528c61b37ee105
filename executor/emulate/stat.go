package emulate

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/owner"
)

// recordName is the attribute's name with its zero byte.
var recordName = []byte(owner.Xattr + "\x00")

// placedRecord reads what is recorded of what place found. It is the only thing that
// is done for almost every stat(2), so it makes one system call and no garbage.
func (s *supervisor) placedRecord(follow bool) (owner.Stat, bool) {
	nr := uintptr(unix.SYS_LGETXATTR)
	if follow {
		nr = unix.SYS_GETXATTR
	}
	size, _, errno := unix.Syscall6(nr, uintptr(unsafe.Pointer(&s.path[0])), uintptr(unsafe.Pointer(&recordName[0])),
		uintptr(unsafe.Pointer(&s.record[0])), uintptr(len(s.record)), 0, 0)
	if errno != 0 {
		return owner.Stat{}, false
	}
	rec, err := owner.Parse(string(s.record[:size]))
	return rec, err == nil
}

// placedOwner is what is known of the owner of what place found.
func (s *supervisor) placedOwner(follow bool) (owner.Stat, bool) {
	rec, ok := s.placedRecord(follow)
	if !ok && len(s.links.known) > 0 {
		return s.placedLink(follow)
	}
	return rec, ok
}

func (s *supervisor) fstat(n *notification) answer {
	return s.statPath(n, at{dir: int32(n.args[0]), empty: true}, n.args[1], true)
}

func (s *supervisor) fstatat(n *notification) answer {
	return s.statPath(n, atDir(n.args[0], n.args[1], n.args[3]), n.args[2], n.args[3]&unix.AT_SYMLINK_NOFOLLOW == 0)
}

// statPath answers stat(2) of what has a record; all else, errors too, is the
// kernel's.
func (s *supervisor) statPath(n *notification, a at, buf uint64, follow bool) answer {
	through, errno := s.place(n, a)
	if errno != 0 {
		return passes()
	}
	if follow && !through {
		s.replaceStandardFile(n.pid)
	}
	rec, ok := s.placedOwner(follow || through)
	if !ok {
		return passes()
	}
	flags := 0
	if !follow && !through {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, s.pathString(), &st, flags); err != nil {
		return passes()
	}
	rec.Apply(&st)
	return fails(s.write(n, buf, bytesOf(&st)))
}

func (s *supervisor) statx(n *notification) answer {
	const passOn = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_FORCE_SYNC | unix.AT_STATX_DONT_SYNC
	flags := int(n.args[2])
	follow := flags&unix.AT_SYMLINK_NOFOLLOW == 0
	through, errno := s.place(n, atDir(n.args[0], n.args[1], n.args[2]))
	if errno != 0 {
		return passes()
	}
	if follow && !through {
		s.replaceStandardFile(n.pid)
	}
	rec, ok := s.placedOwner(follow || through)
	if !ok {
		return passes()
	}
	flags &= passOn
	if through {
		flags &^= unix.AT_SYMLINK_NOFOLLOW
	}
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, s.pathString(), flags, int(n.args[3]), &stx); err != nil {
		return passes()
	}
	st := unix.Stat_t{Mode: uint32(stx.Mode), Size: int64(stx.Size), Blocks: int64(stx.Blocks)}
	st.Rdev = unix.Mkdev(stx.Rdev_major, stx.Rdev_minor)
	rec.Apply(&st)
	stx.Uid, stx.Gid, stx.Mode = st.Uid, st.Gid, uint16(st.Mode)
	stx.Size, stx.Blocks = uint64(st.Size), uint64(st.Blocks)
	stx.Rdev_major, stx.Rdev_minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	return fails(s.write(n, n.args[4], bytesOf(&stx)))
}
