package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// Place says where the entries of an archive are in the folder that it is unpacked to. As
// docker does it, the folder is the root of all names and of all links, also of links
// that were there before: nothing in it leads out of it.
type Place struct {
	// Look says what lies at a path; if nothing does, the error matches fs.ErrNotExist.
	// Paths are relative to the folder, clean and without symlinks before the last
	// component; the folder itself is ".".
	Look func(path string) (Found, error)
	// Mkdir makes a directory that no entry describes.
	Mkdir func(path string) error
}

// Found is what lies at a path.
type Found struct {
	// Dir says that it is a directory, and Link is the target of a symlink.
	Dir  bool
	Link string
}

// maxLinks is how many symlinks are followed on the way to one entry, as in
// path_resolution(7).
const maxLinks = 40

// Entry returns the path of an entry by its name. Directories of the name that are missing
// are made. A link that leads to no directory is an error.
func (p Place) Entry(name string) (string, error) { return p.find(name, true) }

// Target returns the path of an object that a hard link names; nothing is made.
func (p Place) Target(name string) (string, error) { return p.find(name, false) }

// find follows the links of all components but the last.
func (p Place) find(name string, mkdir bool) (string, error) {
	name = path.Clean("/" + name)
	if name == "/" {
		return ".", nil
	}
	at, links, via := ".", 0, "" // via is the link that a component stands in
	dirs := split(path.Dir(name))
	own := len(dirs) // how many of the components left are the name's, and not a link's
	for len(dirs) > 0 {
		next := dirs[0]
		isOwn := len(dirs) <= own
		if isOwn {
			via = ""
		}
		dirs = dirs[1:]
		own = min(own, len(dirs))
		if next == ".." {
			at = path.Dir(at)
			continue
		}
		to := path.Join(at, next)
		found, err := p.Look(to)
		switch {
		case errors.Is(err, fs.ErrNotExist) && mkdir && isOwn:
			if err := p.Mkdir(to); err != nil {
				return "", err
			}
			at = to
		case err != nil && via != "":
			return "", fmt.Errorf("the link /%s leads to no directory: %w", via, err)
		case err != nil:
			return "", err
		case found.Link != "":
			if links++; links > maxLinks {
				return "", fmt.Errorf("/%s: %w", to, syscall.ELOOP)
			}
			if strings.HasPrefix(found.Link, "/") {
				at = "."
			}
			dirs, via = append(split(found.Link), dirs...), to
		case !found.Dir:
			return "", fmt.Errorf("/%s: %w", to, syscall.ENOTDIR)
		default:
			at = to
		}
	}
	return path.Join(at, path.Base(name)), nil
}

// split returns the components of a path that mean something.
func split(p string) []string {
	var parts []string
	for part := range strings.SplitSeq(p, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}
