// Package fakeid holds the credentials that an emulated process believes to have: the
// user and group ids that setuid(2) and its relatives would have given it if the
// kernel let it change them. It follows credentials(7) and the man pages of the
// calls, and does no I/O: what a child inherits is a copy of the value.
package fakeid

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Keep is the argument that leaves an id as it is.
const Keep = ^uint32(0)

// maxGroups is the most groups that a process can have (NGROUPS_MAX).
const maxGroups = 65536

// IDs are the four of a kind that a process has.
type IDs struct{ Real, Effective, Saved, FS uint32 }

// All returns ids that are all the same.
func All(id uint32) IDs { return IDs{id, id, id, id} }

// Creds are a process's credentials. A value is never changed: calls that succeed
// return another one. So values may be shared, also by threads.
type Creds struct {
	UID, GID IDs
	// Groups are the supplementary groups.
	Groups []uint32
	// KeepCaps says that the process keeps its capabilities when it ceases to be
	// root (PR_SET_KEEPCAPS), and Kept that it did so.
	KeepCaps, Kept bool
}

// New returns the credentials of a process that starts as a user.
func New(uid, gid uint32, groups []uint32) Creds {
	return Creds{UID: All(uid), GID: All(gid), Groups: slices.Sorted(slices.Values(groups))} // as the kernel keeps them
}

// Equal reports whether two processes with these credentials behave alike.
func (c Creds) Equal(o Creds) bool {
	return c.UID == o.UID && c.GID == o.GID && c.KeepCaps == o.KeepCaps && c.Kept == o.Kept && slices.Equal(c.Groups, o.Groups)
}

// IsRoot reports whether the process may change ids at will. The capabilities
// CAP_SETUID, CAP_SETGID and CAP_CHOWN are taken to come and go with an effective
// user id of 0, unless they were kept.
func (c Creds) IsRoot() bool { return c.UID.Effective == 0 || c.Kept }

// withUID has other user ids, and what that does to capabilities.
func (c Creds) withUID(ids IDs) Creds {
	zero := func(i IDs) bool { return i.Real == 0 || i.Effective == 0 || i.Saved == 0 }
	if zero(c.UID) && !zero(ids) {
		c.Kept = c.KeepCaps
	}
	c.UID = ids
	return c
}

// In reports whether the process belongs to a group, as permission checks see it.
func (c Creds) In(gid uint32) bool { return c.GID.FS == gid || slices.Contains(c.Groups, gid) }

// Exec returns the credentials after execve(2) of a file with this mode and owner.
func (c Creds) Exec(mode, uid, gid uint32) Creds {
	c.KeepCaps, c.Kept = false, false
	if mode&unix.S_ISUID != 0 {
		c.UID.Effective = uid
	}
	if mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		c.GID.Effective = gid
	}
	c.UID.Saved, c.UID.FS = c.UID.Effective, c.UID.Effective
	c.GID.Saved, c.GID.FS = c.GID.Effective, c.GID.Effective
	return c
}

// Setuid is setuid(2).
func (c Creds) Setuid(id uint32) (Creds, error) {
	ids, err := c.UID.set(id, c.IsRoot())
	return c.withUID(ids), err
}

// Setgid is setgid(2).
func (c Creds) Setgid(id uint32) (Creds, error) {
	var err error
	c.GID, err = c.GID.set(id, c.IsRoot())
	return c, err
}

// Setreuid is setreuid(2).
func (c Creds) Setreuid(r, e uint32) (Creds, error) {
	ids, err := c.UID.setre(r, e, c.IsRoot())
	return c.withUID(ids), err
}

// Setregid is setregid(2).
func (c Creds) Setregid(r, e uint32) (Creds, error) {
	var err error
	c.GID, err = c.GID.setre(r, e, c.IsRoot())
	return c, err
}

// Setresuid is setresuid(2).
func (c Creds) Setresuid(r, e, s uint32) (Creds, error) {
	ids, err := c.UID.setres(r, e, s, c.IsRoot())
	return c.withUID(ids), err
}

// Setresgid is setresgid(2).
func (c Creds) Setresgid(r, e, s uint32) (Creds, error) {
	var err error
	c.GID, err = c.GID.setres(r, e, s, c.IsRoot())
	return c, err
}

// Setfsuid is setfsuid(2), which returns the previous id and never fails.
func (c Creds) Setfsuid(id uint32) (Creds, uint32) {
	old := c.UID.FS
	c.UID = c.UID.setfs(id, c.IsRoot())
	return c, old
}

// Setfsgid is setfsgid(2), which returns the previous id and never fails.
func (c Creds) Setfsgid(id uint32) (Creds, uint32) {
	old := c.GID.FS
	c.GID = c.GID.setfs(id, c.IsRoot())
	return c, old
}

// Setgroups is setgroups(2).
func (c Creds) Setgroups(groups []uint32) (Creds, error) {
	if !c.IsRoot() {
		return c, unix.EPERM
	}
	if len(groups) > maxGroups || slices.Contains(groups, Keep) {
		return c, unix.EINVAL
	}
	c.Groups = slices.Sorted(slices.Values(groups))
	return c, nil
}

// Chown says which owner a file gets by chown(2) with these arguments, or that the
// process may not do that.
func (c Creds) Chown(fileUID, fileGID, uid, gid uint32) (newUID, newGID uint32, err error) {
	newUID, newGID = fileUID, fileGID
	if uid != Keep {
		newUID = uid
	}
	if gid != Keep {
		newGID = gid
	}
	if c.UID.FS == 0 || c.Kept {
		return newUID, newGID, nil
	}
	owns := c.UID.FS == fileUID
	if uid != Keep && !(owns && uid == fileUID) || gid != Keep && !(owns && (gid == fileGID || c.In(gid))) {
		return fileUID, fileGID, unix.EPERM
	}
	return newUID, newGID, nil
}

func (i IDs) set(id uint32, root bool) (IDs, error) {
	switch {
	case id == Keep:
		return i, unix.EINVAL
	case root:
		return All(id), nil
	case id != i.Real && id != i.Saved:
		return i, unix.EPERM
	}
	i.Effective, i.FS = id, id
	return i, nil
}

func (i IDs) setre(r, e uint32, root bool) (IDs, error) {
	if !root {
		if r != Keep && r != i.Real && r != i.Effective {
			return i, unix.EPERM
		}
		if e != Keep && e != i.Real && e != i.Effective && e != i.Saved {
			return i, unix.EPERM
		}
	}
	n := i
	if r != Keep {
		n.Real = r
	}
	if e != Keep {
		n.Effective = e
	}
	if r != Keep || e != Keep && e != i.Real {
		n.Saved = n.Effective
	}
	n.FS = n.Effective
	return n, nil
}

func (i IDs) setres(r, e, s uint32, root bool) (IDs, error) {
	n := i
	for _, f := range []struct {
		want uint32
		id   *uint32
	}{{r, &n.Real}, {e, &n.Effective}, {s, &n.Saved}} {
		if f.want == Keep {
			continue
		}
		if !root && f.want != i.Real && f.want != i.Effective && f.want != i.Saved {
			return i, unix.EPERM
		}
		*f.id = f.want
	}
	if n != i || e != Keep { // else the kernel does nothing at all
		n.FS = n.Effective
	}
	return n, nil
}

func (i IDs) setfs(id uint32, root bool) IDs {
	if id != Keep && (root || id == i.Real || id == i.Effective || id == i.Saved || id == i.FS) {
		i.FS = id
	}
	return i
}
