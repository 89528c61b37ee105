package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/moby/sys/user"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// owner is a resolved user and group.
type owner struct{ uid, gid uint32 }

// maxUserFile bounds how much of /etc/passwd and /etc/group is read.
const maxUserFile = 8 << 20

// resolveOwner finds the numbers of an owner in the file system that is changed. A
// user without a group has the primary group of passwd; a number without a group
// is its own group, as in BuildKit. A user whom the image does not know is 0:0 there, and
// a group that it does not know changes nothing: unknown names them.
func resolveOwner(t snapshot.Tree, o *dag.Owner) (out owner, unknown []string, err error) {
	if o.User != "" {
		if n, err := strconv.ParseUint(o.User, 10, 32); err == nil {
			out = owner{uint32(n), uint32(n)}
		} else {
			users, err := readNames(t, "etc/passwd", func(r io.Reader) ([]user.User, error) {
				return user.ParsePasswdFilter(r, func(u user.User) bool { return u.Name == o.User })
			})
			if err != nil {
				return out, nil, err
			}
			if len(users) > 0 {
				out = owner{uint32(users[0].Uid), uint32(users[0].Gid)}
			} else {
				unknown = append(unknown, fmt.Sprintf("user %q", o.User))
			}
		}
	}
	if o.Group == "" {
		return out, unknown, nil
	}
	if n, err := strconv.ParseUint(o.Group, 10, 32); err == nil {
		out.gid = uint32(n)
		return out, unknown, nil
	}
	groups, err := readNames(t, "etc/group", func(r io.Reader) ([]user.Group, error) {
		return user.ParseGroupFilter(r, func(g user.Group) bool { return g.Name == o.Group })
	})
	if err != nil {
		return out, nil, err
	}
	if len(groups) > 0 {
		out.gid = uint32(groups[0].Gid)
	} else {
		unknown = append(unknown, fmt.Sprintf("group %q", o.Group))
	}
	return out, unknown, nil
}

// readNames reads a file of the tree, following symlinks; one that does not exist
// has no names.
func readNames[T any](t snapshot.Tree, name string, parse func(io.Reader) ([]T, error)) ([]T, error) {
	p, err := snapshot.ResolvePath(t, name, true)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	r, err := t.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	defer r.Close()
	out, err := parse(io.LimitReader(r, maxUserFile))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	return out, nil
}
