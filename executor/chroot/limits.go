package chroot

import (
	"fmt"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// limitsOf are the resource limits of a step; hard ones that this process may not raise
// are cut to what it has.
func limitsOf(spec *sandbox.Spec) ([]limit, error) {
	var out []limit
	for _, u := range spec.Ulimits {
		id, ok := sandbox.Rlimits()[u.Name]
		if !ok {
			return nil, fmt.Errorf("unknown ulimit %q", u.Name)
		}
		lim, err := clamp(id, uint64(u.Soft), uint64(u.Hard))
		if err != nil {
			return nil, fmt.Errorf("read limit %q: %w", u.Name, err)
		}
		out = append(out, lim)
	}
	return out, nil
}

func clamp(id int, soft, hard uint64) (limit, error) {
	var cur unix.Rlimit
	if err := unix.Getrlimit(id, &cur); err != nil {
		return limit{}, err
	}
	hard = min(hard, cur.Max)
	return limit{id, min(soft, hard), hard}, nil
}

// limitMemory bounds the data of each process of a step (RLIMIT_DATA), which is the
// closest to a limit of their memory together.
func limitMemory(pid int, bytes int64) {
	lim, err := clamp(unix.RLIMIT_DATA, uint64(bytes), uint64(bytes))
	if err == nil {
		_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: lim.Soft, Max: lim.Hard}, nil)
	}
}

// cpuSet reads a list such as "0-2,4".
func cpuSet(list string) (set unix.CPUSet, err error) {
	cpus, err := sandbox.Processors(list)
	for _, c := range cpus {
		set.Set(c)
	}
	return set, err
}

// LimitNotes says which limits cannot be kept here as they are asked for, and what
// is done instead.
func (s *Sandbox) LimitNotes(l dag.Limits, ulimits []dag.Ulimit) []string {
	var out []string
	say := func(when bool, format string, args ...any) {
		if when {
			out = append(out, "limits: "+fmt.Sprintf(format, args...))
		}
	}
	total := s.opts.Total
	say(l.Memory > 0, "with --isolation=chroot the data of each process by itself is limited to %d MiB; swap is not limited", l.Memory>>20)
	say(l.Memory == 0 && (l.MemorySwap != 0 || l.MemoryReservation != 0), "with --isolation=chroot limits of swap and the memory reservation have no effect")
	say(l.CPUs > 0 || l.CPUQuota > 0, "with --isolation=chroot CPU quotas have no effect; --cpuset-cpus has")
	say(l.CPUShares > 0, "with --isolation=chroot CPU shares have no effect")
	say(l.CpusetMems != "", "with --isolation=chroot memory nodes have no effect")
	say(l.IO != nil, "with --isolation=chroot limits of devices have no effect")
	say(total.Memory > 0 || total.CPUs > 0, "with --isolation=chroot limits of the whole build have no effect, but for its timeout")
	for _, u := range ulimits {
		id, ok := sandbox.Rlimits()[u.Name]
		if lim, err := clamp(id, uint64(u.Soft), uint64(u.Hard)); ok && err == nil && lim.Hard < uint64(u.Hard) {
			out = append(out, sandbox.ClampNote(u, lim.Hard))
		}
	}
	return out
}

// SizeNote says that file systems in memory cannot be limited here.
func (s *Sandbox) SizeNote() string {
	return "limits: with --isolation=chroot the sizes of /dev/shm and of tmpfs mounts have no effect"
}
