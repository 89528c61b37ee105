package runc

import (
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// cgroup is one container's.
type cgroup struct {
	set     *cgroupSet
	id      string          // of the container
	name    string          // of its directories
	manager cgroups.Manager // v1, with limits
	res     *cgroups.Resources
	paths   map[string]string // where the container's processes are, by hierarchy
	unified string            // v2: the directory
	devices string            // v1: the directory of the container's own device rules
}

// prepare makes the cgroups of a container. It must not be called on a private
// thread. libcontainer's own part of cfg is taken out on v1.
func (c *cgroupSet) prepare(spec *sandbox.Spec, cfg *cgroups.Cgroup) (*cgroup, error) {
	g := &cgroup{set: c, id: spec.ID, name: c.prefix + spec.ID, paths: map[string]string{}}
	if err := c.total.make(); err != nil {
		return nil, err
	}
	if spec.Limits.Parent != "" {
		g.name = ownPrefix + g.name
		if err := c.reclaimBelow(spec.Limits.Parent); err != nil {
			return nil, err
		}
	}
	if c.unified {
		return g, nil
	}
	res := *cfg.Resources
	cfg.Resources = &cgroups.Resources{Devices: res.Devices}
	// Nothing is made there: all cgroups are read-only for libcontainer. That the path is absolute spares libcontainer
	// a look through all mounts.
	cfg.Parent = "/" + cgroupParent + "-none"
	if spec.Security != dag.SecurityInsecure {
		if err := g.confineDevices(spec, res.Devices); err != nil {
			return nil, err
		}
	}
	if len(c.wanted(spec.Limits)) == 0 {
		return g, nil
	}
	if err := g.limit(spec.Limits, &res); err != nil {
		return nil, errors.Join(fmt.Errorf("apply resource limits: %w", err), g.remove())
	}
	return g, nil
}

// limit makes cgroups in the hierarchies that the limits need. The limits are set
// later, by enforce.
func (g *cgroup) limit(l dag.Limits, res *cgroups.Resources) error {
	paths := map[string]string{}
	for _, name := range g.set.wanted(l) {
		dir, ok := g.set.total.child(name, g.name)
		if !ok {
			if dir, ok = g.set.place(name, l.Parent, g.id); !ok {
				return fmt.Errorf("this machine has no %s cgroup", name)
			}
		}
		paths[name], g.paths[name] = dir, dir
	}
	res.Devices, res.SkipDevices = nil, true
	g.res = res
	m, err := cgroupfs.NewManager(&cgroups.Cgroup{Resources: res}, paths)
	if err != nil {
		return err
	}
	g.manager = m
	return m.Apply(-1) // makes the directories; the process comes by itself
}

// join moves the calling thread into the container's cgroups.
func (g *cgroup) join() error {
	for name, dir := range g.paths {
		// "0" is the writing thread.
		if err := cgroups.WriteFile(dir, "tasks", "0"); err != nil {
			return fmt.Errorf("enter %s cgroup: %w", name, err)
		}
	}
	return nil
}

// quit moves the calling thread back.
func (g *cgroup) quit() error {
	var errs []error
	for name := range g.paths {
		errs = append(errs, cgroups.WriteFile(g.set.own[name], "tasks", "0"))
	}
	return errors.Join(errs...)
}

// enforce sets the limits. By then the container is about to execute the user's
// process: what its preparation needs (threads above all) does not count.
func (g *cgroup) enforce() error {
	if g.manager == nil {
		return nil
	}
	if err := g.manager.Set(g.res); err != nil {
		return fmt.Errorf("set resource limits: %w", err)
	}
	return nil
}

// remove deletes the container's cgroups. It must not be called on a private
// thread.
func (g *cgroup) remove() error {
	var err error
	if g.devices != "" {
		err = os.Remove(g.devices)
	}
	if g.manager == nil {
		return err
	}
	return errors.Join(err, g.manager.Destroy())
}

// Hierarchies are the directories of the container's cgroups by the names of their
// hierarchies, to be shown in its /sys; none on v2, where its cgroup namespace does that.
func (g *cgroup) Hierarchies() map[string]string {
	if g.set.unified {
		return nil
	}
	out := maps.Clone(g.set.own)
	for name, dir := range g.paths {
		if name != "devices" {
			out[name] = dir
		}
	}
	return out
}
