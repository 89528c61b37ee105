package runc

import (
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/watch"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// limited is the specification with the limits that cgroups keep, and the rest of them.
func (s *Sandbox) limited(spec *sandbox.Spec) (*sandbox.Spec, dag.Limits) {
	out := *spec
	var rest dag.Limits
	out.Limits, rest = s.cgroups.Keep(spec.Limits)
	return &out, rest
}

// limit puts the limits in force. By then the container is about to execute the
// user's process: what its preparation needs (threads above all) does not count.
func (r *run) limit(pid int) error {
	r.before = watch.UsedSoFar(pid)
	if r.rest.Memory > 0 || r.rest.Pids > 0 || r.spec.Signals != nil {
		r.preparing = watch.Executable(pid)
	}
	if err := r.cgroup.Enforce(); err != nil {
		return err
	}
	if r.rest.CPUs == 0 && r.rest.CpusetCPUs == "" {
		return nil
	}
	return setAffinity(pid, r.rest)
}

// rotation spreads containers over the processors.
var rotation atomic.Uint32

// setAffinity keeps a process and its descendants on some processors: those of
// --cpuset-cpus, or as many as --cpus, rounded up. Its first thread executes the
// user's process; the others are gone then.
func setAffinity(pid int, l dag.Limits) error {
	var have, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &have); err != nil {
		return fmt.Errorf("limit processors: %w", err)
	}
	if l.CpusetCPUs != "" {
		cpus, err := sandbox.Processors(l.CpusetCPUs)
		if err != nil {
			return err
		}
		for _, c := range cpus {
			if have.IsSet(c) {
				want.Set(c)
			}
		}
		have = want
		if have.Count() == 0 {
			return fmt.Errorf("limit processors: there is none of %s", l.CpusetCPUs)
		}
	}
	if n := int(math.Ceil(l.CPUs)); n > 0 && n < have.Count() {
		want = some(&have, n, int(rotation.Add(1)))
	} else {
		want = have
	}
	if err := unix.SchedSetaffinity(pid, &want); err != nil {
		return fmt.Errorf("limit processors: %w", err)
	}
	return nil
}

// some is n processors of a set, from a place in it on.
func some(have *unix.CPUSet, n, from int) (out unix.CPUSet) {
	var all []int
	for c := range 1024 {
		if have.IsSet(c) {
			all = append(all, c)
		}
	}
	for i := range n {
		out.Set(all[(from*n+i)%len(all)])
	}
	return out
}

// startWatch begins to look at the container.
func (r *run) startWatch(pid int) {
	if st, err := r.container.State(); err == nil {
		r.cgroup.Found(st.CgroupPaths[""])
	}
	limited := r.cgroup.MayLackMemory(r.spec.Limits)
	r.watch = watch.Start(pid, r.preparing, r.rest, limited)
	if !limited {
		return
	}
	events, err := r.cgroup.OOMEvents()
	if err != nil {
		return // the number of a process that is killed may stay unknown
	}
	r.events = events
	r.watch.WakeOn(events)
}

func (r *run) endWatch() {
	if r.events != nil {
		r.events.Close()
	}
	r.watch.Finish()
}

// LimitNotes says which limits cannot be kept here as they are asked for, and what
// is done instead.
func (s *Sandbox) LimitNotes(l dag.Limits, ulimits []dag.Ulimit) []string {
	_, rest := s.cgroups.Split(l)
	total := s.cgroups.Rest()
	var out []string
	say := func(when bool, format string, args ...any) {
		if when {
			out = append(out, "limits: "+fmt.Sprintf(format, args...))
		}
	}
	say(rest.Memory > 0, "without a memory cgroup, the private memory of a step's processes is looked at, and the largest is killed beyond %d MiB; swap is not limited", rest.Memory>>20)
	say(rest.Memory == 0 && (rest.MemorySwap != 0 || rest.MemoryReservation != 0), "without a memory cgroup, the memory reservation has no effect")
	say(rest.Pids > 0, "without a pids cgroup, a step that has more than %d threads is killed", rest.Pids)
	say(rest.CPUs > 0 || rest.CPUQuota > 0, "without a cpu cgroup, a step runs on a whole number of processors, and may use them fully")
	say(rest.CPUShares > 0, "without a cpu cgroup, CPU shares have no effect")
	say(rest.CpusetCPUs != "", "without a cpuset cgroup, a step may change the processors that it runs on")
	say(rest.CpusetMems != "", "without a cpuset cgroup, memory nodes have no effect")
	say(rest.IO != nil, "without an io cgroup, limits of devices have no effect")
	say(total.Memory > 0, "without a memory cgroup, the build's limit is kept for each step by itself")
	say(total.CPUs > 0, "without a cpu cgroup, each step runs on a whole number of processors")
	for _, u := range ulimits {
		if hard, clamped := clampUlimit(u); clamped {
			out = append(out, sandbox.ClampNote(u, hard))
		}
	}
	return out
}
