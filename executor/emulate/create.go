package emulate

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/fakeid"
	"layered.build/builder/snapshot/owner"
)

// making is what a call is about to make.
type making struct {
	kind  uint32 // S_IFMT
	flags uint64 // of open(2)
	mode  uint64
	dev   uint64
	// target is the address of what a symlink says.
	target uint64
}

func (s *supervisor) openat(n *notification) answer {
	return s.create(n, atDir(n.args[0], n.args[1], 0), making{kind: unix.S_IFREG, flags: n.args[2], mode: n.args[3]})
}

func (s *supervisor) mkdirat(n *notification) answer {
	return s.create(n, atDir(n.args[0], n.args[1], 0), making{kind: unix.S_IFDIR, mode: n.args[2]})
}

func (s *supervisor) mknodat(n *notification) answer {
	return s.makeNode(n, atDir(n.args[0], n.args[1], 0), n.args[2], n.args[3])
}

func (s *supervisor) symlinkat(n *notification) answer {
	return s.create(n, atDir(n.args[1], n.args[2], 0), making{kind: unix.S_IFLNK, target: n.args[0]})
}

// makeNode is mknod(2). A device 0:0 is overlay's mark that a file is gone.
func (s *supervisor) makeNode(n *notification, a at, mode, dev uint64) answer {
	kind := uint32(mode) & unix.S_IFMT
	switch {
	case kind == 0:
		kind = unix.S_IFREG
	case kind == unix.S_IFSOCK:
		return passes() // no layer has any
	case isDevice(kind) && (!s.creds.of(n.pid).IsRoot() || uint32(dev) == 0):
		return fails(unix.EPERM)
	}
	return s.create(n, a, making{kind: kind, flags: unix.O_CREAT | unix.O_EXCL, mode: mode, dev: uint64(uint32(dev))})
}

// create makes what belongs to somebody else than root, or is a device; everything
// else is the kernel's.
func (s *supervisor) create(n *notification, a at, m making) answer {
	c := s.creds.of(n.pid)
	if _, errno := s.place(n, a); errno != 0 {
		return passes() // to the same error
	}
	uid, gid := c.UID.FS, s.groupOfNew(c, m.flags&unix.O_TMPFILE == unix.O_TMPFILE)
	if uid == 0 && gid == 0 && !isDevice(m.kind) {
		return passes()
	}
	perm := uint32(m.mode) &^ s.umask(n.pid) & 0o7777
	if carriesNoRecord(m.kind) {
		return s.makeLink(n, m, perm, uid, gid)
	}
	if m.kind == unix.S_IFDIR {
		return s.makeDir(n, perm, uid, gid)
	}
	if isDevice(m.kind) {
		return s.makeDevice(n, owner.Stat{UID: uid, GID: gid, Mode: m.kind | perm, Dev: m.dev})
	}
	if n.nr == unix.SYS_MKNODAT || isMknod(n.nr) {
		return s.makeFile(n, perm, uid, gid)
	}
	return s.openNew(n, m.flags, perm, uid, gid)
}

// groupOfNew is the group that a new file in the directory of s.path gets (or in
// s.path itself, for one without a name).
func (s *supervisor) groupOfNew(c *fakeid.Creds, nameless bool) uint32 {
	full := s.path[:bytes.IndexByte(s.path[:], 0)]
	dir := string(full)
	if !nameless {
		full = bytes.TrimRight(full, "/")
		switch i := bytes.LastIndexByte(full, '/'); {
		case i > 0:
			dir = string(full[:i])
		case i == 0 || len(full) == 0:
			dir = "/"
		default:
			dir = "."
		}
	}
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Mode&unix.S_ISGID == 0 {
		return c.GID.FS
	}
	var buf [96]byte
	size, err := unix.Getxattr(dir, owner.Xattr, buf[:])
	if err != nil {
		return 0
	}
	rec, err := owner.Parse(string(buf[:size]))
	if err != nil {
		return 0
	}
	return rec.GID
}

// umask reads a process's mask.
func (s *supervisor) umask(pid uint32) uint32 {
	b := s.status(pid)
	_, b, _ = bytes.Cut(b, []byte("\nUmask:\t"))
	b, _, _ = bytes.Cut(b, []byte("\n"))
	mask, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil {
		return 0o022
	}
	return uint32(mask)
}

// status reads /proc/PID/status.
func (s *supervisor) status(pid uint32) []byte {
	fd, err := unix.Openat(s.proc, strconv.Itoa(int(pid))+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 8<<10)
	size, _ := unix.Read(fd, buf)
	return buf[:max(size, 0)]
}

// innerPID is the number that the container knows a process by.
func (s *supervisor) innerPID(pid uint32) (uint32, bool) {
	_, b, _ := bytes.Cut(s.status(pid), []byte("\nNSpid:"))
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := bytes.Fields(line)
	if len(f) == 0 {
		return 0, false
	}
	inner, err := strconv.ParseUint(string(f[len(f)-1]), 10, 32)
	return uint32(inner), err == nil
}

func (s *supervisor) makeDir(n *notification, perm, uid, gid uint32) answer {
	path := s.pathString()
	if !s.valid(n) {
		return passes()
	}
	if err := unix.Mkdir(path, perm); err != nil {
		return failsWith(err)
	}
	rec := owner.Stat{UID: uid, GID: gid, Mode: unix.S_IFDIR | perm}
	return failsWithAny(owner.Write(path, rec))
}

// makeLink makes a symlink or a fifo.
func (s *supervisor) makeLink(n *notification, m making, perm, uid, gid uint32) answer {
	path := s.pathString()
	target := ""
	if m.kind == unix.S_IFLNK {
		if _, errno := s.readPath(n.pid, m.target); errno != 0 {
			return passes()
		}
		target = s.pathString()
	}
	if !s.valid(n) {
		return passes()
	}
	var err error
	if m.kind == unix.S_IFLNK {
		err = unix.Symlink(target, path)
	} else {
		err = unix.Mkfifo(path, perm)
	}
	if err != nil {
		return failsWith(err)
	}
	file, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return returns(0) // somebody took it away at once
	}
	defer unix.Close(file)
	s.ownLink(file, m.kind|perm, uid, gid)
	return returns(0)
}

func (s *supervisor) makeFile(n *notification, perm, uid, gid uint32) answer {
	path := s.pathString()
	if !s.valid(n) {
		return passes()
	}
	if err := unix.Mknod(path, unix.S_IFREG|perm, 0); err != nil {
		return failsWith(err)
	}
	return failsWithAny(owner.Write(path, owner.Stat{UID: uid, GID: gid, Mode: unix.S_IFREG | perm}))
}

func (s *supervisor) makeDevice(n *notification, rec owner.Stat) answer {
	path := s.pathString()
	if !s.valid(n) {
		return passes()
	}
	if err := unix.Mknod(path, unix.S_IFREG|rec.Mode&0o7777, 0); err != nil {
		return failsWith(err)
	}
	if err := unix.Lsetxattr(path, owner.Xattr, []byte(rec.String()), 0); err != nil {
		_ = unix.Unlink(path)
		return fails(unix.EPERM) // as the kernel would have said: nothing can stand for it
	}
	return returns(0)
}

// openNew is open(2) of a file that is not there.
func (s *supervisor) openNew(n *notification, flags uint64, perm, uid, gid uint32) answer {
	path := s.pathString()
	if flags&unix.O_TMPFILE != unix.O_TMPFILE {
		how := 0
		if flags&(unix.O_EXCL|unix.O_NOFOLLOW) != 0 {
			how = unix.AT_SYMLINK_NOFOLLOW
		}
		var st unix.Stat_t
		if err := unix.Fstatat(unix.AT_FDCWD, path, &st, how); err != unix.ENOENT {
			return passes() // it is there, or cannot be
		}
	}
	if !s.valid(n) {
		return passes()
	}
	// Whatever takes its place meanwhile: this thread must not wait for it.
	fd, err := unix.Open(path, int(flags)|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, perm)
	if err != nil {
		return passes()
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return passes()
	}
	if err := owner.WriteFd(fd, owner.Stat{UID: uid, GID: gid, Mode: unix.S_IFREG | st.Mode&0o7777}); err != nil {
		return failsWithAny(err)
	}
	if flags&unix.O_NONBLOCK == 0 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, int(flags)&^unix.O_NONBLOCK); err != nil {
			return failsWith(err)
		}
	}
	if errno := sendFile(s.listener, n.id, fd, flags&unix.O_CLOEXEC != 0); errno != 0 {
		return fails(errno)
	}
	return answer{sent: true}
}
