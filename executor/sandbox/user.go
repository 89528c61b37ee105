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

// ResolveUser finds out what a USER of a Dockerfile means in an image: spec is
// "user", "uid", "user:group" or any mixture of names and numbers; "" is root.
// Names are looked up in the tree's /etc/passwd and /etc/group, and an unknown
// name is an error. It also returns the user's home directory ("/" if unknown).
//
// As BuildKit does, "uid:gid" is taken as it is without a look at any file; a
// user without a group has the primary and supplementary groups of the files.
func ResolveUser(tree snapshot.Tree, spec string) (User, string, error) {
	if u, ok := numericUser(spec); ok {
		return u, "/", nil
	}
	passwd, err := readUserFile(tree, "etc/passwd")
	if err != nil {
		return User{}, "", fmt.Errorf("resolve user %q: %w", spec, err)
	}
	group, err := readUserFile(tree, "etc/group")
	if err != nil {
		return User{}, "", fmt.Errorf("resolve user %q: %w", spec, err)
	}
	defaults := &user.ExecUser{Home: "/"}
	eu, err := user.GetExecUser(spec, defaults, passwd, group)
	if err != nil {
		return User{}, "", fmt.Errorf("resolve user %q: %w", spec, err)
	}
	u := User{UID: uint32(eu.Uid), GID: uint32(eu.Gid), Groups: []uint32{uint32(eu.Gid)}}
	for _, g := range eu.Sgids {
		if uint32(g) != u.GID {
			u.Groups = append(u.Groups, uint32(g))
		}
	}
	return u, eu.Home, nil
}

// numericUser parses "uid:gid", which needs no files.
func numericUser(spec string) (User, bool) {
	us, gs, ok := strings.Cut(spec, ":")
	if !ok {
		return User{}, false
	}
	uid, err1 := strconv.ParseUint(us, 10, 31)
	gid, err2 := strconv.ParseUint(gs, 10, 31)
	if err1 != nil || err2 != nil {
		return User{}, false
	}
	return User{UID: uint32(uid), GID: uint32(gid)}, true
}

// readUserFile reads a file of the tree following symlinks; one that does not
// exist reads as empty.
func readUserFile(tree snapshot.Tree, name string) (io.Reader, error) {
	if tree == nil {
		return bytes.NewReader(nil), nil
	}
	real, err := followLinks(tree, name)
	if errors.Is(err, fs.ErrNotExist) {
		return bytes.NewReader(nil), nil
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
	return bytes.NewReader(b), nil
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
