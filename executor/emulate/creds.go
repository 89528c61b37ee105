package emulate

import (
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/fakeid"
)

// A process's credentials must follow it through fork and exec, and end with it,
// without a notification of either. The kernel does that with resource limits: the
// soft limit on file locks, which it has not enforced since Linux 2.4.25, holds the
// number of a row in a table. Processes do not get to see or change it by system
// calls (PAM resets all limits).
const (
	rowMark = 0x62756c6400000000 // "buld" above the number of the row
	rowMask = 0xffffffff
	rlimit  = unix.RLIMIT_LOCKS
)

// credTable holds the credentials that processes have come to have. It has an end, so
// that no process can fill this one's memory.
type credTable struct {
	rows   []fakeid.Creds
	groups int // in all rows
}

const (
	maxRows   = 4096
	maxGroups = 1 << 20
)

// newCredTable makes a table; what has no row has the first one's credentials.
func newCredTable(initial fakeid.Creds) *credTable {
	return &credTable{rows: []fakeid.Creds{initial}}
}

// of returns a process's credentials.
func (t *credTable) of(pid uint32) *fakeid.Creds {
	var l unix.Rlimit
	if err := unix.Prlimit(int(pid), rlimit, nil, &l); err != nil || l.Cur&^rowMask != rowMark {
		return &t.rows[0]
	}
	if i := l.Cur & rowMask; i < uint64(len(t.rows)) {
		return &t.rows[i]
	}
	return &t.rows[0]
}

// set gives a process other credentials.
func (t *credTable) set(pid uint32, c fakeid.Creds) unix.Errno {
	row := -1
	for i := range t.rows {
		if t.rows[i].Equal(c) {
			row = i
			break
		}
	}
	if row < 0 {
		if len(t.rows) == maxRows || t.groups+len(c.Groups) > maxGroups {
			return unix.EAGAIN
		}
		row = len(t.rows)
		t.rows = append(t.rows, c)
		t.groups += len(c.Groups)
	}
	var l unix.Rlimit
	err := unix.Prlimit(int(pid), rlimit, nil, &l)
	if err == nil {
		l.Cur = rowMark | uint64(row)
		err = unix.Prlimit(int(pid), rlimit, &l, nil)
	}
	if err != nil {
		return unix.EPERM // the container lowered the hard limit
	}
	return 0
}

func (s *supervisor) getuid(n *notification) answer {
	return returns(int64(s.creds.of(n.pid).UID.Real))
}

func (s *supervisor) geteuid(n *notification) answer {
	return returns(int64(s.creds.of(n.pid).UID.Effective))
}

func (s *supervisor) getgid(n *notification) answer {
	return returns(int64(s.creds.of(n.pid).GID.Real))
}

func (s *supervisor) getegid(n *notification) answer {
	return returns(int64(s.creds.of(n.pid).GID.Effective))
}

func (s *supervisor) getresuid(n *notification) answer { return s.three(n, s.creds.of(n.pid).UID) }
func (s *supervisor) getresgid(n *notification) answer { return s.three(n, s.creds.of(n.pid).GID) }

func (s *supervisor) three(n *notification, ids fakeid.IDs) answer {
	for i, id := range []uint32{ids.Real, ids.Effective, ids.Saved} {
		if errno := s.writeIDs(n, n.args[i], id); errno != 0 {
			return fails(errno)
		}
	}
	return returns(0)
}

func (s *supervisor) getgroups(n *notification) answer {
	groups := s.creds.of(n.pid).Groups
	size := int32(n.args[0])
	switch {
	case size < 0, size > 0 && int(size) < len(groups):
		return fails(unix.EINVAL)
	case size > 0:
		if errno := s.writeIDs(n, n.args[1], groups...); errno != 0 {
			return fails(errno)
		}
	}
	return returns(int64(len(groups)))
}

// change gives the calling process the credentials that f makes of its own.
func (s *supervisor) change(n *notification, f func(c fakeid.Creds, arg func(int) uint32) (fakeid.Creds, error)) answer {
	was := s.creds.of(n.pid)
	c, err := f(*was, func(i int) uint32 { return uint32(n.args[i]) })
	if err != nil {
		return failsWith(err)
	}
	if c.Equal(*was) {
		return returns(0)
	}
	if !s.valid(n) {
		return passes() // nobody waits for an answer
	}
	return fails(s.creds.set(n.pid, c))
}

func (s *supervisor) setuid(n *notification) answer {
	return s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) { return c.Setuid(a(0)) })
}

func (s *supervisor) setgid(n *notification) answer {
	return s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) { return c.Setgid(a(0)) })
}

func (s *supervisor) setreuid(n *notification) answer {
	return s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) { return c.Setreuid(a(0), a(1)) })
}

func (s *supervisor) setregid(n *notification) answer {
	return s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) { return c.Setregid(a(0), a(1)) })
}

func (s *supervisor) setresuid(n *notification) answer {
	return s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) {
		return c.Setresuid(a(0), a(1), a(2))
	})
}

func (s *supervisor) setresgid(n *notification) answer {
	return s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) {
		return c.Setresgid(a(0), a(1), a(2))
	})
}

func (s *supervisor) setfsuid(n *notification) answer {
	var old uint32
	a := s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) {
		c, old = c.Setfsuid(a(0))
		return c, nil
	})
	a.val = int64(old)
	return a
}

func (s *supervisor) setfsgid(n *notification) answer {
	var old uint32
	a := s.change(n, func(c fakeid.Creds, a func(int) uint32) (fakeid.Creds, error) {
		c, old = c.Setfsgid(a(0))
		return c, nil
	})
	a.val = int64(old)
	return a
}

func (s *supervisor) setgroups(n *notification) answer {
	count := n.args[0]
	if count > 65536 {
		return fails(unix.EINVAL)
	}
	groups := make([]uint32, count)
	if count > 0 {
		if b := idBytes(groups); read(n.pid, n.args[1], b) != len(b) {
			return fails(unix.EFAULT)
		}
	}
	return s.change(n, func(c fakeid.Creds, _ func(int) uint32) (fakeid.Creds, error) { return c.Setgroups(groups) })
}

// prlimit is prlimit64(2) of the limit that holds a number: nobody has one.
func (s *supervisor) prlimit(n *notification) answer {
	if n.args[3] == 0 {
		return returns(0)
	}
	return s.limits(n, n.args[3])
}

func (s *supervisor) limits(n *notification, addr uint64) answer {
	none := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	return fails(s.write(n, addr, bytesOf(&none)))
}

// prctl sees what becomes of capabilities when the user changes. The kernel does what
// it says: it is asked to keep what it never takes away here.
func (s *supervisor) prctl(n *notification) answer {
	keep := n.args[1] != 0
	if n.args[0] == unix.PR_SET_SECUREBITS {
		const keepCaps, noFixup = 1 << 4, 1 << 2 // linux/securebits.h
		keep = n.args[1]&(keepCaps|noFixup) != 0
	}
	c := *s.creds.of(n.pid)
	if c.KeepCaps != keep {
		c.KeepCaps = keep
		if s.valid(n) {
			s.creds.set(n.pid, c)
		}
	}
	return passes()
}

// peerCredentials is getsockopt(SOL_SOCKET, SO_PEERCRED): the kernel knows the peer
// at the time it connected; here the credentials are those that it has now.
func (s *supervisor) peerCredentials(n *notification) answer {
	if n.args[1] != unix.SOL_SOCKET {
		return passes()
	}
	pidfd, err := unix.PidfdOpen(int(n.pid), 0)
	if err != nil {
		return passes() // not the thread that leads its process
	}
	defer unix.Close(pidfd)
	sock, err := unix.PidfdGetfd(pidfd, int(int32(n.args[0])), 0)
	if err != nil {
		return passes()
	}
	defer unix.Close(sock)
	peer, err := unix.GetsockoptUcred(sock, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Pid == 0 {
		return passes()
	}
	size := make([]uint32, 1)
	if read(n.pid, n.args[4], idBytes(size)) != 4 || size[0] < 12 {
		return passes()
	}
	c := s.creds.of(uint32(peer.Pid))
	if *peer == (unix.Ucred{Pid: peer.Pid, Uid: c.UID.Effective, Gid: c.GID.Effective}) {
		return passes()
	}
	inner, ok := s.innerPID(uint32(peer.Pid))
	if !ok {
		return passes()
	}
	if errno := s.writeIDs(n, n.args[3], inner, c.UID.Effective, c.GID.Effective); errno != 0 {
		return fails(errno)
	}
	return fails(s.writeIDs(n, n.args[4], 12))
}
