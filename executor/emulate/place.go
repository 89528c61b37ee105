package emulate

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// at is how a call names a file: a path from a directory.
type at struct {
	dir   int32
	path  uint64 // address in the process
	empty bool   // an empty path is the directory itself (AT_EMPTY_PATH)
}

func atCwd(path uint64) at { return at{dir: unix.AT_FDCWD, path: path} }

func atDir(dir, path, flags uint64) at {
	return at{dir: int32(dir), path: path, empty: flags&unix.AT_EMPTY_PATH != 0}
}

// place reads the path of a call into s.path and brings the thread to where it is
// relative to. Whether the last component is to be followed is the caller's; through
// says that it has to be, since it is a link of /proc to what is meant.
func (s *supervisor) place(n *notification, a at) (through bool, errno unix.Errno) {
	length := 0
	if a.path != 0 || !a.empty {
		if length, errno = s.readPath(n.pid, a.path); errno != 0 {
			return false, errno
		}
	}
	if length == 0 {
		if !a.empty {
			return false, unix.ENOENT
		}
		s.placeFD(n.pid, a.dir)
		return true, 0
	}
	if s.chroots {
		if errno := s.jail(n.pid); errno != 0 {
			return false, errno
		}
	}
	if s.path[0] == '/' {
		return false, 0
	}
	var dir [32]byte
	s.moved = true
	return false, errnoOf(chdir(s.fdPath(dir[:0], n.pid, a.dir)))
}

// placeFD makes s.path name an open file of a process, or its working directory.
func (s *supervisor) placeFD(pid uint32, fd int32) { s.fdPath(s.path[:0], pid, fd) }

// fdPath appends the name that a file of a process has in /proc, with a zero byte.
func (s *supervisor) fdPath(b []byte, pid uint32, fd int32) []byte {
	b = strconv.AppendUint(b, uint64(pid), 10)
	if fd == unix.AT_FDCWD {
		return append(b, "/cwd\x00"...)
	}
	return append(strconv.AppendInt(append(b, "/fd/"...), int64(fd), 10), 0)
}

// own is the name of one of this process's descriptors, from /proc.
func own(fd int) string { return "self/fd/" + strconv.Itoa(fd) }

// jail gives the thread the root of a process that called chroot(2).
func (s *supervisor) jail(pid uint32) unix.Errno {
	root, err := unix.Openat(s.proc, strconv.Itoa(int(pid))+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(root)
	var a, b unix.Stat_t
	if err := unix.Fstat(root, &a); err != nil {
		return errnoOf(err)
	}
	if err := unix.Fstat(s.root, &b); err != nil {
		return errnoOf(err)
	}
	if a.Dev == b.Dev && a.Ino == b.Ino {
		return 0
	}
	s.jailed = true
	if s.setRoot(root) != nil {
		return unix.EPERM
	}
	return 0
}

// open opens what place found, as a handle only.
func (s *supervisor) openPlaced(follow bool) (int, unix.Errno) {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(s.pathString(), flags, 0)
	return fd, errnoOf(err)
}

func (s *supervisor) pathString() string {
	return string(s.path[:max(0, bytes.IndexByte(s.path[:], 0))])
}

func chdir(path []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_CHDIR, uintptr(unsafe.Pointer(&path[0])), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func errnoOf(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(unix.Errno); ok {
		return errno
	}
	return unix.EPERM
}
