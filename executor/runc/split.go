package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/planner/dag"
)

// hierarchies are the controllers that keep limits, by their names in cgroup v1.
func hierarchies() []string { return []string{"memory", "cpu", "cpuset", "pids", "blkio"} }

// limitsOf reports whether a controller has to keep any of the limits.
func limitsOf(l dag.Limits, controller string) bool {
	switch controller {
	case "memory":
		return l.Memory != 0 || l.MemorySwap != 0 || l.MemoryReservation != 0
	case "cpu":
		return l.CPUs != 0 || l.CPUQuota != 0 || l.CPUPeriod != 0 || l.CPUShares != 0
	case "cpuset":
		return l.CpusetCPUs != "" || l.CpusetMems != ""
	case "pids":
		return l.Pids != 0
	case "blkio":
		return l.IO != nil
	}
	return false
}

func limitsAny(l dag.Limits) bool {
	return slices.ContainsFunc(hierarchies(), func(h string) bool { return limitsOf(l, h) })
}

// take moves the limits of one controller from one set to another.
func take(from, to *dag.Limits, controller string) {
	switch controller {
	case "memory":
		to.Memory, to.MemorySwap, to.MemoryReservation = from.Memory, from.MemorySwap, from.MemoryReservation
		from.Memory, from.MemorySwap, from.MemoryReservation = 0, 0, 0
	case "cpu":
		to.CPUs, to.CPUQuota, to.CPUPeriod, to.CPUShares = from.CPUs, from.CPUQuota, from.CPUPeriod, from.CPUShares
		from.CPUs, from.CPUQuota, from.CPUPeriod, from.CPUShares = 0, 0, 0, 0
	case "cpuset":
		to.CpusetCPUs, to.CpusetMems = from.CpusetCPUs, from.CpusetMems
		from.CpusetCPUs, from.CpusetMems = "", ""
	case "pids":
		to.Pids, from.Pids = from.Pids, 0
	case "blkio":
		to.IO, from.IO = from.IO, nil
	}
}

// split tells the limits that cgroups can keep here from the rest.
func (c *cgroupSet) split(l dag.Limits) (held, rest dag.Limits) {
	held = l
	if l.Parent != "" { // who names one has the rights
		return held, rest
	}
	for _, h := range hierarchies() {
		if limitsOf(l, h) && !c.keeps(h) {
			take(&held, &rest, h)
		}
	}
	return held, rest
}

// keeps reports whether containers' cgroups can have a controller.
func (c *cgroupSet) keeps(controller string) bool {
	if c.unified {
		if controller == "blkio" {
			controller = "io"
		}
		return slices.Contains(c.delegated(), controller)
	}
	own, ok := c.own[controller]
	if !ok {
		return false
	}
	if dir := filepath.Join(own, cgroupParent); cgroups.PathExists(dir) {
		own = dir
	}
	return unix.Access(own, unix.W_OK) == nil
}

// findControllers makes a cgroup where those of containers are made, and looks which
// controllers it has (v2). As an ordinary user these are the ones that were delegated.
func (c *cgroupSet) findControllers() []string {
	parents := c.parents()
	if len(parents) == 0 {
		return nil
	}
	dir := filepath.Join(parents[0], c.prefix+"probe")
	// With a limit it fails in a place that could only have thread-wise controllers.
	err := fs2.CreateCgroupPath(dir, &cgroups.Cgroup{Resources: &cgroups.Resources{Memory: 1 << 30}})
	if err != nil {
		return nil
	}
	defer os.Remove(dir)
	return strings.Fields(readCgroup(dir, "cgroup.controllers"))
}

// total is the cgroup of all containers together: theirs are in it.
type total struct {
	set    *cgroupSet
	limits dag.Limits
	once   sync.Once
	err    error
	paths  map[string]string // v1: by hierarchy; v2: by ""
	mgr    cgroups.Manager
}

// newTotal returns nil if there is nothing to limit.
func (c *cgroupSet) newTotal(l dag.Limits) *total {
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
		return filepath.Join(cgroupParent, t.set.prefix+totalID)
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

// wanted are the v1 hierarchies in which a container has a cgroup of its own.
func (c *cgroupSet) wanted(l dag.Limits) []string {
	if l.Parent != "" {
		return c.limiting()
	}
	var out []string
	for _, h := range hierarchies() {
		if _, ok := c.total.child(h, ""); ok || limitsOf(l, h) {
			out = append(out, h)
		}
	}
	return out
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
