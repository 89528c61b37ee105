package cgroup

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

// Group is the cgroups of one container, which serve one run.
type Group struct {
	set     *Set
	id      string          // of the container
	name    string          // of its directories
	manager cgroups.Manager // v1, with limits
	res     *cgroups.Resources
	paths   map[string]string // where the container's processes are, by hierarchy
	unified string            // v2: the directory
	devices string            // v1: the directory of the container's own device rules
}

// Prepare makes the cgroups of a container, which the caller removes. It must not be called on a private
// thread. libcontainer's own part of cfg is taken out on v1.
func (c *Set) Prepare(spec *sandbox.Spec, cfg *cgroups.Cgroup) (*Group, error) {
	g := &Group{set: c, id: spec.ID, name: c.prefix + spec.ID, paths: map[string]string{}}
	if err := c.total.make(); err != nil {
		return nil, err
	}
	if spec.Limits.Parent != "" {
		g.name = ownPrefix + g.name
		c.mark(spec.Limits.Parent)
		if err := c.reclaimBelow(spec.Limits.Parent); err != nil {
			return nil, err
		}
	}
	if c.unified {
		return g, nil
	}
	res := *cfg.Resources
	cfg.Resources = &cgroups.Resources{Devices: res.Devices}
	// Nothing is made there: all cgroups are read-only for libcontainer. That the path
	// is absolute spares it a look through all mounts.
	cfg.Parent = "/" + parentName + "-none"
	if spec.Security != dag.SecurityInsecure {
		if err := g.confineDevices(spec, res.Devices); err != nil {
			return nil, err
		}
	}
	if len(c.wanted(spec.Limits)) == 0 {
		return g, nil
	}
	if err := g.limit(spec.Limits, &res); err != nil {
		return nil, errors.Join(fmt.Errorf("apply resource limits: %w", err), g.Remove())
	}
	return g, nil
}

// limit makes cgroups in the hierarchies that the limits need. The limits are set
// later, by Enforce.
func (g *Group) limit(l dag.Limits, res *cgroups.Resources) error {
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

// Join moves the calling thread into the container's cgroups.
func (g *Group) Join() error {
	for name, dir := range g.paths {
		// "0" is the writing thread.
		if err := cgroups.WriteFile(dir, "tasks", "0"); err != nil {
			return fmt.Errorf("enter %s cgroup: %w", name, err)
		}
	}
	return nil
}

// Quit moves the calling thread back.
func (g *Group) Quit() error {
	var errs []error
	for name := range g.paths {
		errs = append(errs, cgroups.WriteFile(g.set.own[name], "tasks", "0"))
	}
	return errors.Join(errs...)
}

// Enforce sets the limits. By then the container is about to execute the user's
// process: what its preparation needs (threads above all) does not count.
func (g *Group) Enforce() error {
	if g.manager == nil {
		return nil
	}
	if err := g.manager.Set(g.res); err != nil {
		return fmt.Errorf("set resource limits: %w", err)
	}
	return nil
}

// Remove deletes the container's cgroups. It must not be called on a private
// thread.
func (g *Group) Remove() error {
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
func (g *Group) Hierarchies() map[string]string {
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
