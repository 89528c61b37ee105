package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// maxLinks is how many symlinks are followed on the way to one object, as in
// path_resolution(7).
const maxLinks = 40

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
		if e.Type != TypeSymlink {
			done = at
			continue
		}
		if links++; links > maxLinks {
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
func Walk(t Tree, root string, fn func(*Entry) error) error {
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

func walk(t Tree, e *Entry, fn func(*Entry) error) error {
	if err := fn(e); err != nil || e.Type != TypeDir {
		return err
	}
	children, err := t.ReadDir(e.Path)
	if err != nil {
		return err
	}
	for _, c := range children {
		err := walk(t, c, fn)
		if errors.Is(err, fs.SkipDir) {
			if c.Type == TypeDir {
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

// Tree is a read-only file tree: the merged view of a layer stack, or a build
// context. Paths are as in Entry.Path. No method follows symlinks, also not in
// the middle of a path: use ResolvePath for that. Errors match fs.ErrNotExist.
// A Tree is safe for concurrent use.
type Tree interface {
	// Lstat describes one object. Digest may be empty.
	Lstat(path string) (*Entry, error)
	// ReadDir lists a directory's children, sorted by name.
	ReadDir(path string) ([]*Entry, error)
	// Open opens a regular file; the caller closes it.
	Open(path string) (io.ReadCloser, error)
	// Digest returns the content digest of a regular file, from an index where
	// one is known to be true, else by reading the file.
	Digest(path string) (digest.Digest, error)
}

// HostPather is a Tree that can say where an object really lies on this machine
// (for bind mounts, links and reflinks). The path must not be written to.
type HostPather interface {
	HostPath(path string) (string, bool)
}
