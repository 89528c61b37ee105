package confine

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// defaultCaps is Docker's default set (CapBnd 00000000a80425fb).
func defaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
		"CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Capabilities are Docker's default ones with the changes that were asked for, or
// all that this process may hand on.
func Capabilities(spec *sandbox.Spec) *specs.LinuxCapabilities {
	if spec.Security != dag.SecurityInsecure {
		c := changedCaps(spec)
		return &specs.LinuxCapabilities{Bounding: c, Permitted: c, Effective: c}
	}
	c := boundingCaps()
	return &specs.LinuxCapabilities{Bounding: c, Permitted: c, Effective: c, Inheritable: c, Ambient: c}
}

// changedCaps are the default capabilities without what is dropped and with what
// is added; "ALL" is all that this process has.
func changedCaps(spec *sandbox.Spec) []string {
	c := defaultCaps()
	if slices.Contains(spec.CapDrop, "ALL") {
		c = nil
	}
	if slices.Contains(spec.CapAdd, "ALL") {
		c = boundingCaps()
	}
	c = slices.DeleteFunc(c, func(name string) bool { return slices.Contains(spec.CapDrop, name) })
	for _, name := range spec.CapAdd {
		if name != "ALL" && !slices.Contains(c, name) {
			c = append(c, name)
		}
	}
	return c
}

// boundingCaps are the capabilities of this process's bounding set.
func boundingCaps() []string {
	var out []string
	for i, name := range dag.Capabilities() {
		if set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && set == 1 {
			out = append(out, name)
		}
	}
	return out
}

// HasCapability reports whether this process has a capability in force.
func HasCapability(number int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[number/32].Effective&(1<<(number%32)) != 0
}
