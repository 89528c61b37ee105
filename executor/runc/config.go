package runc

import (
	"fmt"
	"strconv"

	_ "github.com/opencontainers/cgroups/devices" // device rules of cgroups; without it containers are refused
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const (
	defaultHostname = "buildkitsandbox" // what Dockerfiles see under BuildKit
	defaultShmSize  = 64 << 20
)

// newConfig translates a Spec. rootfs is where the root file system is attached
// and mounts are all that is mounted in it.
func (s *Sandbox) newConfig(spec *sandbox.Spec, rootfs, cgroup string, mounts []specs.Mount) (*configs.Config, error) {
	insecure := spec.Security == dag.SecurityInsecure
	rs := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: rootfs, Readonly: spec.ReadOnlyRoot},
		Hostname: hostname(spec),
		Process: &specs.Process{
			Cwd:          spec.Cwd,
			Args:         spec.Args,
			Capabilities: capabilities(insecure),
		},
		Mounts: mounts,
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Namespaces:  s.namespaces(),
			Resources:   resources(spec.Limits),
		},
	}
	if insecure {
		insecureDevices(rs)
	} else {
		rs.Linux.MaskedPaths = s.masked
		rs.Linux.ReadonlyPaths = readonlyPaths()
	}
	limits, err := rlimits(spec.Ulimits)
	if err != nil {
		return nil, err
	}
	rs.Process.Rlimits = limits
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:      spec.ID,
		Spec:            rs,
		RootlessCgroups: s.cgroups.optional(spec.Limits),
	})
	if err != nil {
		return nil, fmt.Errorf("configure container: %w", err)
	}
	if !insecure {
		cfg.Seccomp = s.seccomp
	}
	return cfg, nil
}

func hostname(spec *sandbox.Spec) string {
	if spec.Hostname != "" {
		return spec.Hostname
	}
	return defaultHostname
}

// namespaces are those that libcontainer makes. The network namespace is not
// among them: the thread that starts the container is in it already.
func (s *Sandbox) namespaces() []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
		{Type: specs.MountNamespace},
	}
	if s.cgroups.namespaced {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

func baseMounts(spec *sandbox.Spec) []specs.Mount {
	shm := spec.ShmSize
	if shm <= 0 {
		shm = defaultShmSize
	}
	sys, cgroup := "ro", "ro"
	if spec.Security == dag.SecurityInsecure {
		sys, cgroup = "rw", "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", cgroup}},
	}
	return mounts
}

// rlimits clamps to the hard limits of this process where it has no
// CAP_SYS_RESOURCE, since raising them would fail.
func rlimits(ulimits []dag.Ulimit) ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	for _, u := range ulimits {
		id, ok := rlimitNumbers()[u.Name]
		if !ok {
			return nil, fmt.Errorf("unknown ulimit %q", u.Name)
		}
		soft, hard := uint64(u.Soft), uint64(u.Hard) // -1 is RLIM_INFINITY
		var cur unix.Rlimit
		if err := unix.Getrlimit(id, &cur); err != nil {
			return nil, fmt.Errorf("read limit %q: %w", u.Name, err)
		}
		if hard > cur.Max {
			test := cur
			test.Max = hard
			if unix.Setrlimit(id, &test) != nil {
				hard = cur.Max
			} else if err := unix.Setrlimit(id, &cur); err != nil {
				return nil, fmt.Errorf("restore limit %q: %w", u.Name, err)
			}
		}
		out = append(out, specs.POSIXRlimit{Type: rlimitName(u.Name), Soft: min(soft, hard), Hard: hard})
	}
	return out, nil
}
