package confine

import (
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// Policy is how the processes of this machine's containers are confined unless they
// ask for something else. It is safe for concurrent use.
type Policy struct {
	seccomp  func() ([]byte, error) // compiled on first use
	masked   []string
	apparmor string // the profile, "" without AppArmor
}

// NewPolicy looks at this machine, whose /sys is sys.
func NewPolicy(sys string) *Policy {
	return &Policy{seccomp: sync.OnceValues(defaultSeccomp), masked: maskedPaths(), apparmor: defaultAppArmor(sys)}
}

// Compile prepares the default filter, once.
func (p *Policy) Compile() { _, _ = p.seccomp() }

// Filter is the seccomp program of a process, nil if it is to have none.
func (p *Policy) Filter(spec *sandbox.Spec) ([]byte, error) {
	switch {
	case spec.Security == dag.SecurityInsecure, spec.Confine != nil && spec.Confine.Seccomp == dag.SeccompUnconfined:
		return nil, nil
	case len(spec.CapAdd)+len(spec.CapDrop) > 0 || spec.SeccompProfile != nil:
		return seccompFor(spec)
	}
	return p.seccomp()
}

// Hidden are the paths that a process does not see, and those that it cannot
// change.
func (p *Policy) Hidden(c *dag.Confinement) (masked, readonly []string) {
	masked, readonly = p.masked, readonlyPaths()
	if c == nil {
		return masked, readonly
	}
	shown := func(hidden string) bool {
		return slices.ContainsFunc(c.Unmask, func(u string) bool {
			match, err := path.Match(u, hidden)
			return u == dag.UnmaskAll || u == hidden || strings.HasPrefix(hidden, u+"/") || err == nil && match
		})
	}
	masked = slices.DeleteFunc(slices.Clone(masked), shown)
	readonly = slices.DeleteFunc(readonly, shown)
	return append(masked, c.Mask...), readonly
}

// AppArmor is the profile of a process, "" for none.
func (p *Policy) AppArmor(c *dag.Confinement) string {
	switch {
	case c == nil || c.AppArmor == "":
		return p.apparmor
	case c.AppArmor == "unconfined":
		return ""
	}
	return c.AppArmor
}

// maskedPaths are those of containerd's default spec, without what this kernel
// does not have (each costs the container's start a failing mount).
func maskedPaths() []string {
	all := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/sys/firmware", "/sys/devices/virtual/powercap", "/proc/scsi",
	}
	cpus, _ := os.ReadDir("/sys/devices/system/cpu")
	for _, c := range cpus {
		if strings.HasPrefix(c.Name(), "cpu") {
			all = append(all, "/sys/devices/system/cpu/"+c.Name()+"/thermal_throttle")
		}
	}
	var out []string
	for _, p := range all {
		if _, err := os.Lstat(p); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
