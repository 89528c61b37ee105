package cgroup

import (
	"math"

	devices "github.com/opencontainers/cgroups/devices/config"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

type deviceRules = []*devices.Rule

// Resources are the limits and device rules of a container for libcontainer.
func (c *Set) Resources(spec *sandbox.Spec) *specs.LinuxResources {
	r := resources(spec.Limits, spec.Security == dag.SecurityInsecure, c.swap)
	r.Devices = append(r.Devices, deviceRulesOf(spec.Devices)...)
	return r
}

// resources translates limits as docker run does. No device may be used but
// those of libcontainer's list (see DropTUN), or all if insecure. swap says whether swap can be
// limited here.
func resources(l dag.Limits, insecure, swap bool) *specs.LinuxResources {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: insecure, Access: "rwm"}}}
	if limitsOf(l, "memory") {
		r.Memory = memory(l, swap)
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
	if l.IO != nil {
		r.BlockIO = blockIO(l.IO)
	}
	return r
}

func blockIO(l *dag.IOLimits) *specs.LinuxBlockIO {
	out := &specs.LinuxBlockIO{
		ThrottleReadBpsDevice: throttles(l.ReadBPS), ThrottleWriteBpsDevice: throttles(l.WriteBPS),
		ThrottleReadIOPSDevice: throttles(l.ReadIOPS), ThrottleWriteIOPSDevice: throttles(l.WriteIOPS),
	}
	if l.Weight != 0 {
		out.Weight = &l.Weight
	}
	return out
}

func throttles(rates []dag.DeviceRate) []specs.LinuxThrottleDevice {
	var out []specs.LinuxThrottleDevice
	for _, r := range rates {
		d := specs.LinuxThrottleDevice{Rate: r.Rate}
		d.Major, d.Minor = r.Major, r.Minor
		out = append(out, d)
	}
	return out
}

func memory(l dag.Limits, swappable bool) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if l.Memory != 0 {
		m.Limit = &l.Memory
	}
	swap := l.MemorySwap
	if swap == 0 && l.Memory != 0 && swappable { // as much swap as memory
		swap = 2 * l.Memory
	}
	if swap != 0 {
		m.Swap = &swap
	}
	if l.MemoryReservation != 0 {
		m.Reservation = &l.MemoryReservation
	}
	return m
}
