package runc

import (
	"fmt"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// rlimits clamps to the hard limits of this process where it has no
// CAP_SYS_RESOURCE, since raising them would fail.
func rlimits(ulimits []dag.Ulimit) ([]configs.Rlimit, error) {
	var out []configs.Rlimit
	for _, u := range ulimits {
		id, ok := sandbox.Rlimits()[u.Name]
		if !ok {
			return nil, fmt.Errorf("unknown ulimit %q", u.Name)
		}
		hard, _ := clampUlimit(u)
		out = append(out, configs.Rlimit{Type: id, Soft: min(uint64(u.Soft), hard), Hard: hard})
	}
	return out, nil
}

// mayRaiseLimits asks for the capability in the machine's user namespace, as the
// kernel does.
func mayRaiseLimits() bool {
	return confine.HasCapability(unix.CAP_SYS_RESOURCE) && !rootless.InUserNamespace()
}

// clampUlimit returns the hard limit that can be set, and whether it is less than
// what is asked for. -1 is RLIM_INFINITY.
func clampUlimit(u dag.Ulimit) (hard uint64, clamped bool) {
	hard = uint64(u.Hard)
	var cur unix.Rlimit
	id, ok := sandbox.Rlimits()[u.Name]
	if !ok || unix.Getrlimit(id, &cur) != nil || hard <= cur.Max || mayRaiseLimits() {
		return hard, false
	}
	return cur.Max, true
}
