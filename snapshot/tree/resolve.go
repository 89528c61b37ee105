package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"layered.build/builder/snapshot/manifest"
)

// MaxLinks is how many symlinks are followed on the way to one object, as in
// path_resolution(7).
const MaxLinks = 40

// ResolvePath follows the symlinks of a path inside a tree, absolute ones too,
// and returns the path without them; ".." stops at the root. The last component
// is followed only if followLast. Components that do not exist are kept as they
// are. Too many links are an error that matches syscall.ELOOP.
func ResolvePath(t Tree, p string, followLast bool) (string, error) {
	done, left, links := ".", p, 0
	for {
		var name string
		name, left = nextComponent(left)
		switch name {
		case "":
			return done, nil
		case "..":
			done = path.Dir(done)
			continue
		}
		at := path.Join(done, name)
		last := strings.Trim(left, "/") == ""
		if last && !followLast {
			return at, nil
		}
		e, err := t.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			// What follows cannot exist either; ".." in it is taken lexically.
			done = at
			continue
		}
		if err != nil {
			return "", fmt.Errorf("resolve %s: %w", p, err)
		}
		if e.Type != manifest.TypeSymlink {
			done = at
			continue
		}
		if links++; links > MaxLinks {
			return "", fmt.Errorf("resolve %s: %w", p, syscall.ELOOP)
		}
		if strings.HasPrefix(e.Linkname, "/") {
			done = "."
		}
		left = e.Linkname + "/" + left
	}
}

// nextComponent splits the first component that means something off a path.
func nextComponent(p string) (name, rest string) {
	for {
		p = strings.TrimLeft(p, "/")
		name, rest, _ = strings.Cut(p, "/")
		if name != "." {
			return name, rest
		}
		p = rest
	}
}

// Walk calls fn for root and everything below it, parents first, siblings sorted
// by name. fs.SkipDir and fs.SkipAll from fn have their meaning.
func Walk(t Tree, root string, fn func(*manifest.Entry) error) error {
	e, err := t.Lstat(root)
	if err != nil {
		return err
	}
	err = walk(t, e, fn)
	if errors.Is(err, fs.SkipDir) || errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func walk(t Tree, e *manifest.Entry, fn func(*manifest.Entry) error) error {
	if err := fn(e); err != nil || e.Type != manifest.TypeDir {
		return err
	}
	children, err := t.ReadDir(e.Path)
	if err != nil {
		return err
	}
	for _, c := range children {
		err := walk(t, c, fn)
		if errors.Is(err, fs.SkipDir) {
			if c.Type == manifest.TypeDir {
				continue
			}
			return nil // skips the rest of this directory
		}
		if err != nil {
			return err
		}
	}
	return nil
}
