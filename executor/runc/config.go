package runc

import (
	"fmt"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/runc/cgroup"
	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/executor/runc/rootfs"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const defaultHostname = "buildkitsandbox" // what Dockerfiles see under BuildKit

// newConfig translates what of a Spec is libcontainer's part, for a run in dir. The root file system
// and all namespaces but those of processes, mounts and cgroups exist already.
func (s *Sandbox) newConfig(spec *sandbox.Spec, dir string) (*configs.Config, error) {
	insecure := spec.Security == dag.SecurityInsecure
	rs := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: filepath.Join(dir, "root"), Readonly: spec.ReadOnlyRoot},
		Process: &specs.Process{
			Cwd:          cwd(spec),
			Args:         spec.Args,
			Capabilities: confine.Capabilities(spec),
		},
		Mounts: rootfs.ContainerMounts(dir, spec.Mounts, s.cgroups.Unified(), readOnly(!insecure)),
		Linux: &specs.Linux{
			Namespaces: s.namespaces(),
			Resources:  s.cgroups.Resources(spec), CgroupsPath: s.cgroups.Path(spec),
		},
	}
	if !insecure {
		rs.Linux.MaskedPaths, rs.Linux.ReadonlyPaths = s.policy.Hidden(spec.Confine)
		rs.Process.NoNewPrivileges = spec.Confine != nil && spec.Confine.NoNewPrivileges
	}
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: s.cgroups.Name(spec.ID),
		Spec:       rs,
		// On v1 the cgroups are ours: libcontainer finds them read-only, and
		// takes that as it does for users without rights to them.
		RootlessCgroups: !s.cgroups.Delegates(),
	})
	if err != nil {
		return nil, fmt.Errorf("configure container: %w", err)
	}
	if !insecure {
		cfg.AppArmorProfile = s.policy.AppArmor(spec.Confine)
		cgroup.DropTUN(cfg.Cgroups.Resources, spec.Devices)
	}
	if cfg.Rlimits, err = rlimits(spec.Ulimits); err != nil {
		return nil, err
	}
	return cfg, nil
}

func readOnly(yes bool) string {
	if yes {
		return "ro"
	}
	return "rw"
}

func hostname(spec *sandbox.Spec) string {
	if spec.Hostname != "" {
		return spec.Hostname
	}
	return defaultHostname
}

// namespaces are those that libcontainer makes. The thread that starts the
// container is in the others already.
func (s *Sandbox) namespaces() []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}
	if s.cgroups.Namespaced() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}
