package runc

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
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

// capabilities are Docker's default ones with the changes that were asked for, or
// all that this process may hand on.
func capabilities(spec *sandbox.Spec) *specs.LinuxCapabilities {
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

// hasCapability reports whether this process has a capability in force.
func hasCapability(number int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[number/32].Effective&(1<<(number%32)) != 0
}

// defaultSeccomp is moby's default profile for the default capabilities, as a
// program.
func defaultSeccomp() ([]byte, error) { return seccompFor(&sandbox.Spec{}) }

// seccompFor is the profile of a process, moby's default one unless it has its own,
// for what the process may do.
func seccompFor(spec *sandbox.Spec) ([]byte, error) {
	rs := &specs.Spec{Process: &specs.Process{Capabilities: capabilities(spec)}}
	var p *specs.LinuxSeccomp
	var err error
	if spec.SeccompProfile != nil {
		p, err = seccomp.LoadProfile(string(spec.SeccompProfile), rs)
	} else {
		p, err = seccomp.GetDefaultProfile(rs)
	}
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	return compileSeccomp(p)
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

// insecureDevices are the nodes that BuildKit's security.insecure adds.
func insecureDevices() []specs.LinuxDevice {
	devices := []specs.LinuxDevice{
		{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11},
		{Path: "/dev/cuse", Type: "c", Major: 10, Minor: 203},
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229},
		{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232},
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200},
		{Path: "/dev/loop-control", Type: "c", Major: 10, Minor: 237},
	}
	for i := range int64(8) {
		devices = append(devices, specs.LinuxDevice{Path: fmt.Sprintf("/dev/loop%d", i), Type: "b", Major: 7, Minor: i})
	}
	return devices
}
