package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/planner/dag"
)

// total is the cgroup of all containers together: theirs are in it.
type total struct {
	set    *Set
	limits dag.Limits
	once   sync.Once
	err    error
	paths  map[string]string // v1: by hierarchy; v2: by ""
	mgr    cgroups.Manager
}

// newTotal returns nil if there is nothing to limit.
func (c *Set) newTotal(l dag.Limits) *total {
	if !limitsAny(l) {
		return nil
	}
	t := &total{set: c, limits: l, paths: map[string]string{}}
	if c.unified {
		dir := filepath.Join(fs2.UnifiedMountpoint, t.unifiedPath())
		if l.Parent == "" {
			dir = filepath.Join(c.parents()[0], c.prefix+totalID)
		}
		t.paths[""] = dir
		return t
	}
	for _, h := range hierarchies() {
		if limitsOf(l, h) {
			t.paths[h], _ = c.place(h, l.Parent, totalID)
		}
	}
	return t
}

// totalID stands for all containers.
const totalID = "build"

// unifiedPath is where it is on v2, in libcontainer's form.
func (t *total) unifiedPath() string {
	if t.limits.Parent == "" {
		return filepath.Join(parentName, t.set.prefix+totalID)
	}
	return filepath.Join("/", t.limits.Parent, ownPrefix+t.set.prefix+totalID)
}

// child is where a container's cgroup is made instead of its usual place (v1).
func (t *total) child(hierarchy, name string) (string, bool) {
	if t == nil {
		return "", false
	}
	dir, ok := t.paths[hierarchy]
	return filepath.Join(dir, name), ok
}

// make makes the cgroup, once. It must not be called on a private thread.
func (t *total) make() error {
	if t == nil {
		return nil
	}
	t.once.Do(func() {
		if t.err = t.create(); t.err != nil {
			t.err = fmt.Errorf("limit the build: %w", t.err)
		}
	})
	return t.err
}

func (t *total) create() error {
	if t.limits.Parent != "" {
		t.set.mark(t.limits.Parent)
	}
	cfg, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{CgroupName: "build", Spec: &specs.Spec{
		Linux: &specs.Linux{Resources: resources(t.limits, false, t.set.swap)},
	}}, nil)
	if err != nil {
		return err
	}
	cfg.Resources.Devices, cfg.Resources.SkipDevices = nil, true
	if t.set.unified {
		t.mgr, err = fs2.NewManager(cfg, t.paths[""])
	} else {
		t.mgr, err = cgroupfs.NewManager(cfg, t.paths)
	}
	if err != nil {
		return err
	}
	return errors.Join(t.mgr.Apply(-1), t.mgr.Set(cfg.Resources))
}

// remove deletes the cgroup.
func (t *total) remove() error {
	if t == nil || t.mgr == nil {
		return nil
	}
	return t.mgr.Destroy()
}
