package emulate

import (
	"bytes"

	"golang.org/x/sys/unix"
)

func (s *supervisor) chroot(*notification) answer {
	s.chroots = true
	return passes()
}

func (s *supervisor) execve(n *notification) answer { return s.exec(n, atCwd(n.args[0]), true) }

func (s *supervisor) execveat(n *notification) answer {
	return s.exec(n, atDir(n.args[0], n.args[1], n.args[4]), n.args[4]&unix.AT_SYMLINK_NOFOLLOW == 0)
}

// exec gives a process the credentials that the program's mode says. The kernel has
// not tried yet to execute it, and may fail for reasons of its own.
func (s *supervisor) exec(n *notification, a at, follow bool) answer {
	through, errno := s.place(n, a)
	if errno != 0 {
		return passes()
	}
	flags := 0
	if !follow && !through {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	var st unix.Stat_t
	if unix.Fstatat(unix.AT_FDCWD, s.pathString(), &st, flags) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return passes()
	}
	st.Uid, st.Gid = 0, 0
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		s.raise(n.pid, &st, follow || through)
	}
	c := s.creds.of(n.pid)
	if next := c.Exec(st.Mode, st.Uid, st.Gid); !next.Equal(*c) && s.valid(n) {
		s.creds.set(n.pid, next)
	}
	return passes()
}

// raise completes what is known of a program with set-user-ID or set-group-ID bits,
// and takes them away where they do not count.
func (s *supervisor) raise(pid uint32, st *unix.Stat_t, follow bool) {
	file, errno := s.openPlaced(follow)
	if errno == 0 {
		defer unix.Close(file)
	}
	if errno != 0 || s.home() != nil || !s.mayRaise(pid, file) {
		st.Mode &^= unix.S_ISUID | unix.S_ISGID
		return
	}
	if rec, ok := s.recordOf(file); ok {
		rec.Apply(st)
	}
}

// mayRaise reports whether a program's set-user-ID bits count: not those of scripts,
// nor on a file system mounted without them, nor for who gave up new privileges.
func (s *supervisor) mayRaise(pid uint32, file int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(file, &fs) != nil || fs.Flags&unix.ST_NOSUID != 0 {
		return false
	}
	if bytes.Contains(s.status(pid), []byte("\nNoNewPrivs:\t1")) {
		return false
	}
	fd, err := unix.Open(own(file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var magic [2]byte
	size, _ := unix.Read(fd, magic[:])
	return string(magic[:max(size, 0)]) != "#!"
}
