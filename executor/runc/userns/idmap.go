package userns

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

// Dirs are directories that are mounted again with ids of the container.
type Dirs struct {
	ns    *Namespace
	below string // where they are mounted
	store string
	from  []string
}

// Dirs returns directories that are mounted below a folder. store is the folder of the
// snapshots, "" if there is none.
func (u *Namespace) Dirs(below, store string) *Dirs {
	return &Dirs{ns: u, below: below, store: store}
}

// Mount changes a snapshot's paths into ones that have the container's ids. Without
// a user namespace, where d is nil, it changes nothing.
func (d *Dirs) Mount(m snapshot.Mount) (snapshot.Mount, error) {
	if d == nil {
		return m, nil
	}
	var err error
	lower := make([]string, len(m.Lower))
	for i, l := range m.Lower {
		if lower[i], err = d.path(l); err != nil {
			return m, err
		}
	}
	m.Lower = lower
	if m.Upper == "" {
		return m, nil
	}
	// Both must be on one mount.
	if m.Upper, err = d.path(m.Upper); err == nil && m.Work != "" {
		m.Work, err = d.path(m.Work)
	}
	return m, err
}

// path returns where a directory is with the container's ids. One mount, of the
// store's folder, serves all that is in it.
func (d *Dirs) path(dir string) (string, error) {
	root := d.store
	if root == "" || !inside(dir, root) {
		root = filepath.Dir(dir)
	}
	for i, from := range d.from {
		if inside(dir, from) {
			return d.at(i) + strings.TrimPrefix(dir, from), nil
		}
	}
	fd, err := d.ns.CloneMapped(root, false)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	target := d.at(len(d.from))
	if err := os.MkdirAll(target, 0o711); err != nil {
		return "", fmt.Errorf("map ids of %s: %w", root, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", &os.PathError{Op: "mount", Path: target, Err: err}
	}
	d.from = append(d.from, root)
	return target + strings.TrimPrefix(dir, root), nil
}

func (d *Dirs) at(i int) string { return filepath.Join(d.below, strconv.Itoa(i)) }

func inside(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
