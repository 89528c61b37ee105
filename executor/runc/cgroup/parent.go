package cgroup

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups/fs2"
)

// ownPrefix begins the names of cgroups that stand below one of the user's, beside
// those of others.
const ownPrefix = "builder-"

// place is a container's cgroup in a v1 hierarchy: below this process's own, or
// below the parent that was asked for, which is a path from the hierarchy's root.
func (c *Set) place(hierarchy, parent, id string) (dir string, ok bool) {
	own, ok := c.own[hierarchy]
	if !ok {
		return "", false
	}
	if parent == "" {
		return filepath.Join(own, parentName, c.prefix+id), true
	}
	return filepath.Join(mountOf(own), filepath.Join("/", parent), ownPrefix+c.prefix+id), true
}

// unifiedPath is a container's cgroup on v2 in libcontainer's form: below this
// process's own, or an absolute path.
func (c *Set) unifiedPath(parent, id string) string {
	if c.total != nil {
		return filepath.Join(c.total.unifiedPath(), c.prefix+id)
	}
	if parent == "" {
		return filepath.Join(parentName, c.prefix+id)
	}
	return filepath.Join("/", parent, ownPrefix+c.prefix+id)
}

// limiting names the v1 hierarchies in which a parent can limit its children.
func (c *Set) limiting() []string {
	var out []string
	for name := range c.own {
		if name != "devices" && name != "systemd" { // devices are confined apart
			out = append(out, name)
		}
	}
	return out
}

// markID begins what follows the prefix in the name of a mark.
const markID = "parent."

// mark makes a cgroup in this process's own that tells of a parent of the user's: so
// Reclaim knows, if this process is killed, where else it made some. Without it they stay
// until somebody uses that parent again.
func (c *Set) mark(parent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.marks[parent]; ok {
		return
	}
	for _, dir := range slices.Sorted(slices.Values(c.parents())) {
		dir = filepath.Join(dir, c.prefix+markID+base64.RawURLEncoding.EncodeToString([]byte(parent)))
		if os.MkdirAll(dir, 0o755) == nil {
			c.marks[parent] = dir
			return
		}
	}
}

// marked is the parent that the mark of a dead process tells of.
func marked(name string) (parent string, ok bool) {
	f := strings.SplitN(name, "-", 4)
	if len(f) != 4 {
		return "", false
	}
	text, ok := strings.CutPrefix(f[3], markID)
	if !ok {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	return string(raw), err == nil
}

// reclaimBelow removes what killed processes left below a parent of the user's,
// which Reclaim does not know.
func (c *Set) reclaimBelow(parent string) error {
	dirs := []string{filepath.Join(fs2.UnifiedMountpoint, filepath.Join("/", parent))}
	if !c.unified {
		dirs = nil
		for _, own := range c.own {
			dirs = append(dirs, filepath.Join(mountOf(own), filepath.Join("/", parent)))
		}
	}
	var errs []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if name, ok := strings.CutPrefix(e.Name(), ownPrefix); ok && e.IsDir() && abandoned(name) {
				errs = append(errs, reclaim(filepath.Join(dir, e.Name())))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cgroup parent %s: %w", parent, err)
	}
	return nil
}

// mountOf is the mount point of a v1 hierarchy that a directory is in.
func mountOf(dir string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(dir, mountPoint+"/"), "/")
	return filepath.Join(mountPoint, name)
}
