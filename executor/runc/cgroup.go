package runc

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/planner/dag"
)

// cgroupParent is the cgroup below this process's own (below its parent's on
// cgroup v2, where a cgroup with processes has no controllers to give) that
// holds those of all containers.
const cgroupParent = "builder"

// cgroupInfo is what is known of this machine's cgroups.
type cgroupInfo struct {
	unified    bool // cgroup v2 only
	namespaced bool // containers get a cgroup namespace
}

func detectCgroups() cgroupInfo {
	unified := cgroups.IsCgroup2UnifiedMode()
	_, err := os.Stat("/proc/self/ns/cgroup")
	// On v1 a cgroup namespace fails to mount hierarchies with unusual sets of
	// controllers (BuildKit leaves it out there for the same reason).
	return cgroupInfo{unified: unified, namespaced: unified && err == nil}
}

// optional says that a container may run outside of a cgroup of its own if it
// cannot have one.
func (c cgroupInfo) optional(l dag.Limits) bool { return l == (dag.Limits{}) }

// cgroupName names a container's cgroup so that a later process can tell whether
// the one that made it still lives.
func cgroupName(id string) (string, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d-%d-%s", os.Getpid(), start, id), nil
}

// startTime returns when a process started, in clock ticks since boot.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read start time: %w", err)
	}
	// Field 2 is in parentheses and may hold anything; field 22 is wanted.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return 0, fmt.Errorf("read start time of %d: short stat", pid)
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// resources translates limits as docker run does.
func resources(l dag.Limits) *specs.LinuxResources {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	if l.Memory != 0 || l.MemorySwap != 0 {
		r.Memory = &specs.LinuxMemory{}
		if l.Memory != 0 {
			r.Memory.Limit = &l.Memory
		}
		swap := l.MemorySwap
		if swap == 0 { // as much swap as memory
			swap = 2 * l.Memory
		}
		r.Memory.Swap = &swap
	}
	quota, period := l.CPUQuota, l.CPUPeriod
	if l.CPUs > 0 {
		period = 100_000
		quota = int64(math.Round(l.CPUs * float64(period)))
	}
	if quota != 0 || period != 0 || l.CPUShares != 0 || l.CpusetCPUs != "" || l.CpusetMems != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CpusetCPUs, Mems: l.CpusetMems}
		if quota != 0 {
			r.CPU.Quota = &quota
		}
		if period != 0 {
			r.CPU.Period = &period
		}
		if l.CPUShares != 0 {
			r.CPU.Shares = &l.CPUShares
		}
	}
	if l.Pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return r
}
