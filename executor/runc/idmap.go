package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

// mappedDirs are directories that are mounted again with ids of the container.
type mappedDirs struct {
	ns    *userNamespace
	below string // where they are mounted
	from  []string
}

// mount changes a snapshot's paths into ones that have the container's ids. Without
// a user namespace it changes nothing.
func (d *mappedDirs) mount(m snapshot.Mount, store string) (snapshot.Mount, error) {
	if d.ns == nil {
		return m, nil
	}
	var err error
	lower := make([]string, len(m.Lower))
	for i, l := range m.Lower {
		if lower[i], err = d.path(l, store); err != nil {
			return m, err
		}
	}
	m.Lower = lower
	if m.Upper == "" {
		return m, nil
	}
	// Both must be on one mount.
	if m.Upper, err = d.path(m.Upper, store); err == nil && m.Work != "" {
		m.Work, err = d.path(m.Work, store)
	}
	return m, err
}

// path returns where a directory is with the container's ids. One mount, of the
// store's folder, serves all that is in it.
func (d *mappedDirs) path(dir, store string) (string, error) {
	root := store
	if root == "" || !inside(dir, root) {
		root = filepath.Dir(dir)
	}
	for i, from := range d.from {
		if inside(dir, from) {
			return d.at(i) + strings.TrimPrefix(dir, from), nil
		}
	}
	fd, err := d.ns.cloneMapped(root, false)
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

func (d *mappedDirs) at(i int) string { return filepath.Join(d.below, strconv.Itoa(i)) }

func inside(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
