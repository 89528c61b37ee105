package emulate

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_X86_64

// archCalls are those that newer architectures do not have any more.
func archCalls() []call {
	return []call{
		{unix.SYS_GETRLIMIT, &condition{arg: 0, values: []uint32{rlimit}}, (*supervisor).getrlimit},
		{unix.SYS_SETRLIMIT, &condition{arg: 0, values: []uint32{rlimit}}, (*supervisor).setrlimit},
		{unix.SYS_STAT, nil, (*supervisor).stat},
		{unix.SYS_LSTAT, nil, (*supervisor).lstat},
		{unix.SYS_CHOWN, nil, (*supervisor).chown},
		{unix.SYS_LCHOWN, nil, (*supervisor).lchown},
		{unix.SYS_OPEN, &condition{arg: 1, bits: creates}, (*supervisor).open},
		{unix.SYS_CREAT, nil, (*supervisor).creat},
		{unix.SYS_MKDIR, nil, (*supervisor).mkdir},
		{unix.SYS_MKNOD, nil, (*supervisor).mknod},
		{unix.SYS_SYMLINK, nil, (*supervisor).symlink},
	}
}

func (s *supervisor) stat(n *notification) answer {
	return s.statPath(n, atCwd(n.args[0]), n.args[1], true)
}
func (s *supervisor) lstat(n *notification) answer {
	return s.statPath(n, atCwd(n.args[0]), n.args[1], false)
}

func (s *supervisor) getrlimit(n *notification) answer { return s.limits(n, n.args[1]) }
func (s *supervisor) setrlimit(*notification) answer   { return returns(0) }

func (s *supervisor) chown(n *notification) answer {
	return s.chownPath(n, atCwd(n.args[0]), n.args[1], n.args[2], true)
}

func (s *supervisor) lchown(n *notification) answer {
	return s.chownPath(n, atCwd(n.args[0]), n.args[1], n.args[2], false)
}

func (s *supervisor) open(n *notification) answer {
	return s.create(n, atCwd(n.args[0]), making{kind: unix.S_IFREG, flags: n.args[1], mode: n.args[2]})
}

func (s *supervisor) creat(n *notification) answer {
	const flags = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC
	return s.create(n, atCwd(n.args[0]), making{kind: unix.S_IFREG, flags: flags, mode: n.args[1]})
}

func (s *supervisor) mkdir(n *notification) answer {
	return s.create(n, atCwd(n.args[0]), making{kind: unix.S_IFDIR, mode: n.args[1]})
}

func (s *supervisor) mknod(n *notification) answer {
	return s.makeNode(n, atCwd(n.args[0]), n.args[1], n.args[2])
}

func (s *supervisor) symlink(n *notification) answer {
	return s.create(n, atCwd(n.args[1]), making{kind: unix.S_IFLNK, target: n.args[0]})
}

func isMknod(nr int32) bool { return nr == unix.SYS_MKNOD }
