package kernel

import (
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/snapshot/owner"
)

// maxAttribute is the size that an attribute's value can have (XATTR_SIZE_MAX).
const maxAttribute = 64 << 10

// target finds the object of a call on attributes: where is its first argument.
func (c *call) target(how attrTarget) (view.Place, error) {
	if how == attrDescriptor {
		p, err := c.open(c.FD(0))
		p.ReadOnly = false
		return p, err
	}
	return c.place(atCwd, 0, how == attrFollow)
}

type attrTarget int

const (
	attrFollow attrTarget = iota
	attrNoFollow
	attrDescriptor
)

// attribute is the name that stands for another one on disk: what this process may
// not set is kept as an attribute of users.
func (c *call) attribute(i int) (string, error) {
	name, err := ptrace.ReadString(c.Task.TID, c.Reg.Arg(i), 256)
	if err != nil {
		return "", err
	}
	switch {
	case name == owner.Xattr, strings.HasPrefix(name, owner.HiddenPrefix):
		return "", unix.EPERM
	}
	return owner.HiddenXattr(name), nil
}

// change finds what a call that changes an attribute is about. Only root changes
// those that users cannot have.
func (c *call) change(how attrTarget) (p view.Place, name string, err error) {
	if p, err = c.target(how); err != nil {
		return p, "", err
	}
	if p.ReadOnly {
		return p, "", unix.EROFS
	}
	name, err = c.attribute(1)
	if err == nil && strings.HasPrefix(name, owner.HiddenPrefix) && !c.Task.Creds.IsRoot() {
		err = unix.EPERM
	}
	return p, name, err
}

func (c *call) doSetxattr(how attrTarget) (int64, error) {
	p, name, err := c.change(how)
	if err != nil {
		return 0, err
	}
	size := c.Reg.Arg(3)
	if size > maxAttribute {
		return 0, unix.E2BIG
	}
	value := make([]byte, size)
	if err := ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(2), value); err != nil {
		return 0, err
	}
	if how == attrNoFollow && !isDescriptor(p.Host) {
		return 0, unix.Lsetxattr(p.Host, name, value, c.Flags(4))
	}
	return 0, unix.Setxattr(p.Host, name, value, c.Flags(4))
}

func (c *call) doGetxattr(how attrTarget) (int64, error) {
	p, err := c.target(how)
	if err != nil {
		return 0, err
	}
	name, err := c.attribute(1)
	if err == unix.EPERM {
		err = unix.ENODATA
	}
	if err != nil {
		return 0, err
	}
	value := make([]byte, min(c.Reg.Arg(3), maxAttribute))
	var n int
	if how == attrNoFollow && !isDescriptor(p.Host) {
		n, err = unix.Lgetxattr(p.Host, name, value)
	} else {
		n, err = unix.Getxattr(p.Host, name, value)
	}
	if err != nil {
		return 0, err
	}
	if len(value) == 0 {
		return int64(n), nil
	}
	return int64(n), ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(2), value[:n])
}

func (c *call) doListxattr(how attrTarget) (int64, error) {
	p, err := c.target(how)
	if err != nil {
		return 0, err
	}
	all := make([]byte, maxAttribute)
	var n int
	if how == attrNoFollow && !isDescriptor(p.Host) {
		n, err = unix.Llistxattr(p.Host, all)
	} else {
		n, err = unix.Listxattr(p.Host, all)
	}
	if err != nil {
		return 0, err
	}
	var out []byte
	for name := range strings.SplitSeq(strings.TrimSuffix(string(all[:n]), "\x00"), "\x00") {
		if shown, ok := owner.ShownXattr(name); ok && name != "" {
			out = append(append(out, shown...), 0)
		}
	}
	size := c.Reg.Arg(2)
	switch {
	case size == 0:
		return int64(len(out)), nil
	case size < uint64(len(out)):
		return 0, unix.ERANGE
	}
	return int64(len(out)), ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(1), out)
}

func (c *call) doRemovexattr(how attrTarget) (int64, error) {
	p, name, err := c.change(how)
	if err != nil {
		return 0, err
	}
	if how == attrNoFollow && !isDescriptor(p.Host) {
		return 0, unix.Lremovexattr(p.Host, name)
	}
	return 0, unix.Removexattr(p.Host, name)
}
