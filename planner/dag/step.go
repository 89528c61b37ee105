package dag

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ID names what a step is: the sha256 of the canonical encoding of its
// operation, platform and inputs ("sha256:<hex>"). Equal IDs mean equal steps;
// Meta does not take part.
type ID string

// Step is one vertex of the build graph.
type Step struct {
	// Op is what is done. It is one of the types of this package.
	Op Op
	// Inputs are the results that Op reads; ops refer to them by index.
	Inputs []Edge
	// Platform is what the step runs on or is made for.
	Platform ocispec.Platform

	// Meta says how the step is shown, scheduled and limited. It is never hashed.
	Meta Meta

	once sync.Once
	id   ID
}

// Edge points to one output of a step. The zero Edge is "scratch": no layers.
type Edge struct {
	Step   *Step
	Output int
}

// Outputs is how many results the step has.
func (s *Step) Outputs() int {
	n := 1
	if op, ok := s.Op.(*Exec); ok {
		for _, m := range op.Mounts {
			n = max(n, m.Output+1)
		}
	}
	return n
}

// Unkeyed reports whether the step reads what has no part in its key, so that it has to run
// in every build.
func (s *Step) Unkeyed() bool {
	op, ok := s.Op.(*Exec)
	return ok && len(op.Volumes) > 0
}

// OutputMount is the mount of an Exec that makes an output, nil if none does: output 0
// may be that of a root that begins as scratch.
func (e *Exec) OutputMount(output int) *Mount {
	for i, m := range e.Mounts {
		if output == 0 && m.Dest == "/" || output > 0 && m.Output == output {
			return &e.Mounts[i]
		}
	}
	return nil
}

// IsScratch reports whether the edge is the empty file system.
func (e Edge) IsScratch() bool { return e.Step == nil }

// Location is a range of lines of a Dockerfile, 1-based, both ends included.
type Location struct {
	File       string
	Start, End int
}

// Meta is what is known of a step beside what it does.
type Meta struct {
	// Name is what users see: `[build 2/5] RUN make`.
	Name string
	// Command is the instruction as history shows it, without the stage prefix.
	Command string
	// Stage is the name of the stage that the step belongs to.
	Stage string
	// Locations are the instruction's lines.
	Locations []Location
	// NoCache makes the step run although a record exists.
	NoCache bool
	// MaxAge is how old a record may be that is used; 0: as old as it is.
	MaxAge time.Duration
	// Limits are the resources that a process of this step may use.
	Limits Limits
	// ProxyEnv is added to the environment of an Exec, outside its identity
	// ("KEY=value"; the predefined proxy build arguments).
	ProxyEnv []string
	// InputNames are the names by which inputs may be shown ("--from=build"), by index.
	InputNames []string
	// Alike tells the step from others of the Dockerfile, so that it can be compared with
	// what it was in earlier builds: by what its instruction says, then by its place. Empty
	// for what no instruction makes; the Name stands for it.
	Alike []string
	// Reads are the paths that the build reads of a local source, as Selector gives them;
	// nil is all of it.
	Reads []string
	// Args are the names of the build arguments that are variables of an Exec.
	Args []string
	// IdleArgs are those of Args that may change with every build, and that the instruction
	// does not name.
	IdleArgs []string
	// Checks say what is told of the step's findings.
	Checks Checks
}

// Limits are limits for all processes of a step together. Zero fields do not limit.
type Limits struct {
	Memory     int64 // bytes
	MemorySwap int64 // bytes, memory plus swap; -1: unlimited swap
	// MemoryReservation is what the step is brought back to when the machine has
	// little memory left.
	MemoryReservation int64
	CPUs              float64 // cores, as docker run --cpus
	CPUShares         uint64
	CPUQuota          int64 // microseconds per CPUPeriod
	CPUPeriod         uint64
	CpusetCPUs        string
	CpusetMems        string
	Pids              int64
	// Parent is the cgroup below which those of the step are made, a path from the
	// root of the hierarchies; "" is this process's own.
	Parent string
	// IO limits the use of block devices; nil: no limit.
	IO *IOLimits
	// Timeout is how long the process may take.
	Timeout time.Duration
}

// Validate refuses a cgroup that is not below the root of the hierarchies.
func (l Limits) Validate() error {
	if strings.Contains(l.Parent, ":") || slices.Contains(strings.Split(l.Parent, "/"), "..") {
		return fmt.Errorf("cgroup parent %s: want a path below /sys/fs/cgroup", l.Parent)
	}
	return nil
}

// String lists the limits that are set.
func (l Limits) String() string {
	var out []string
	add := func(name string, value any, isSet bool) {
		if isSet {
			out = append(out, fmt.Sprintf("%s=%v", name, value))
		}
	}
	add("memory", l.Memory, l.Memory != 0)
	add("memory-swap", l.MemorySwap, l.MemorySwap != 0)
	add("memory-reservation", l.MemoryReservation, l.MemoryReservation != 0)
	add("cpus", l.CPUs, l.CPUs != 0)
	add("cpu-shares", l.CPUShares, l.CPUShares != 0)
	add("cpu-quota", l.CPUQuota, l.CPUQuota != 0)
	add("cpu-period", l.CPUPeriod, l.CPUPeriod != 0)
	add("cpuset-cpus", l.CpusetCPUs, l.CpusetCPUs != "")
	add("cpuset-mems", l.CpusetMems, l.CpusetMems != "")
	add("pids", l.Pids, l.Pids != 0)
	if l.IO != nil {
		add("io", *l.IO, true)
	}
	add("cgroup-parent", l.Parent, l.Parent != "")
	add("timeout", l.Timeout, l.Timeout != 0)
	return strings.Join(out, " ")
}

// IOLimits are limits for block devices.
type IOLimits struct {
	Weight uint16 // 10 to 1000, relative to other steps; 0: none
	// Bytes and operations a second.
	ReadBPS, WriteBPS, ReadIOPS, WriteIOPS []DeviceRate
}

// DeviceRate is a limit for one block device.
type DeviceRate struct {
	Major, Minor int64
	Rate         uint64
}

// Graph is a set of steps in an order in which every step follows its inputs.
type Graph struct {
	Steps []*Step
}

// NewGraph collects all steps that the given edges reach, inputs first, in an
// order that depends on the edges alone.
func NewGraph(roots ...Edge) *Graph {
	g := &Graph{}
	seen := map[*Step]bool{}
	var visit func(s *Step)
	visit = func(s *Step) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for _, in := range s.Inputs {
			visit(in.Step)
		}
		g.Steps = append(g.Steps, s)
	}
	for _, r := range roots {
		visit(r.Step)
	}
	return g
}
