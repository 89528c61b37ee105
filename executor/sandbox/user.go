package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"layered.build/builder/snapshot"
)

// maxUserFile bounds how much of /etc/passwd and /etc/group is read.
const maxUserFile = 8 << 20

// UserError says that an image does not know the user of a step.
type UserError struct {
	User string // as USER has it
	Err  error
}

// Error implements error.
func (e *UserError) Error() string { return fmt.Sprintf("resolve user %q: %v", e.User, e.Err) }

// Unwrap returns the cause.
func (e *UserError) Unwrap() error { return e.Err }

// ResolveUser finds out what a USER of a Dockerfile means in an image: spec is
// "user", "uid", "user:group" or any mixture of names and numbers; "" is root.
// Names are looked up in the tree's /etc/passwd and /etc/group, and an unknown
// name is an error. It also returns the user's home directory ("/" if unknown).
//
// As BuildKit does, "uid:gid" is taken as it is without a look at any file, and a
// user without a group has the primary and supplementary groups of the files.
// Groups always holds the primary group.
func ResolveUser(tree snapshot.Tree, spec string) (User, string, error) {
	passwd, err := readUserFile(tree, "etc/passwd")
	if err != nil {
		return User{}, "", fmt.Errorf("resolve user %q: %w", spec, err)
	}
	if u, ok := numericUser(spec); ok {
		return u, homeOf(passwd, u.UID), nil
	}
	group, err := readUserFile(tree, "etc/group")
	if err != nil {
		return User{}, "", fmt.Errorf("resolve user %q: %w", spec, err)
	}
	name := spec
	if name == "" {
		name = "0"
	}
	eu, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil && spec == "" {
		return User{Groups: []uint32{0}}, "/", nil // an unreadable passwd does not keep root out
	}
	if err != nil {
		return User{}, "", &UserError{User: spec, Err: err}
	}
	u := User{UID: uint32(eu.Uid), GID: uint32(eu.Gid), Groups: []uint32{uint32(eu.Gid)}}
	for _, g := range eu.Sgids {
		if uint32(g) != u.GID {
			u.Groups = append(u.Groups, uint32(g))
		}
	}
	return u, homeOf(passwd, u.UID), nil
}

// homeOf is the home directory of the first user with a number, "/" if there is
// none.
func homeOf(passwd []byte, uid uint32) string {
	users, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(u user.User) bool { return u.Uid == int(uid) })
	if err != nil || len(users) == 0 || users[0].Home == "" {
		return "/"
	}
	return users[0].Home
}

// numericUser parses "uid:gid"; a user "root" counts as a number.
func numericUser(spec string) (User, bool) {
	us, gs, ok := strings.Cut(spec, ":")
	if !ok {
		return User{}, false
	}
	uid, ok1 := parseID(us)
	gid, ok2 := parseID(gs)
	return User{UID: uid, GID: gid, Groups: []uint32{gid}}, ok1 && ok2
}

func parseID(s string) (uint32, bool) {
	if s == "root" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// readUserFile reads a file of the tree following symlinks; one that does not
// exist reads as empty.
func readUserFile(tree snapshot.Tree, name string) ([]byte, error) {
	if tree == nil {
		return nil, nil
	}
	real, err := followLinks(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := tree.Open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	if len(b) > maxUserFile {
		return nil, fmt.Errorf("/%s is larger than %d bytes", name, maxUserFile)
	}
	return b, nil
}

// followLinks resolves the symlinks of a path inside the tree.
func followLinks(tree snapshot.Tree, name string) (string, error) {
	done, rest, hops := ".", name, 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		e, err := tree.Lstat(next)
		if err != nil {
			return "", err
		}
		if e.Type != snapshot.TypeSymlink {
			done = next
			continue
		}
		if hops++; hops > 40 {
			return "", fmt.Errorf("/%s: too many symlinks", name)
		}
		if path.IsAbs(e.Linkname) {
			done = "."
		}
		rest = path.Join(strings.TrimPrefix(e.Linkname, "/"), rest)
	}
	return done, nil
}
