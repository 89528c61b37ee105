package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
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

// Split tells the limits that cgroups can keep here from the rest.
func (c *Set) Split(l dag.Limits) (held, rest dag.Limits) {
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
func (c *Set) keeps(controller string) bool {
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
	if dir := filepath.Join(own, parentName); cgroups.PathExists(dir) {
		own = dir
	}
	return unix.Access(own, unix.W_OK) == nil
}

// findControllers makes a cgroup where those of containers are made, and looks which
// controllers it has (v2). As an ordinary user these are the ones that were delegated.
func (c *Set) findControllers() []string {
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

// wanted are the v1 hierarchies in which a container has a cgroup of its own.
func (c *Set) wanted(l dag.Limits) []string {
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

// Keep tells the limits of a container that its cgroups keep from the rest, to which
// what no cgroup keeps of those of all containers is added.
func (c *Set) Keep(l dag.Limits) (held, rest dag.Limits) {
	held, rest = c.Split(l)
	rest.CPUs = cpus(rest)
	if t := c.total; t != nil && t.limits.CPUs > 0 && cpus(held) > t.limits.CPUs {
		// On cgroup v1 a share of a share cannot be larger than that.
		held.CPUs, held.CPUQuota, held.CPUPeriod = t.limits.CPUs, 0, 0
	}
	rest.Memory = lesser(rest.Memory, c.rest.Memory)
	rest.CPUs = lesser(rest.CPUs, c.rest.CPUs)
	return held, rest
}

// Rest is what no cgroup keeps of the limits of all containers together.
func (c *Set) Rest() dag.Limits { return c.rest }

// cpus is how many processors may be used, 0 if that is not limited.
func cpus(l dag.Limits) float64 {
	if l.CPUs > 0 || l.CPUQuota <= 0 {
		return l.CPUs
	}
	period := l.CPUPeriod
	if period == 0 {
		period = 100_000 // the kernel's default
	}
	return float64(l.CPUQuota) / float64(period)
}

// lesser is the lower limit; 0 is none.
func lesser[T int64 | float64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
