package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
)

func deviceType(d sandbox.Device) string {
	if d.Block {
		return "b"
	}
	return "c"
}

// deviceRulesOf let a container use its own devices.
func deviceRulesOf(devices []sandbox.Device) []specs.LinuxDeviceCgroup {
	var out []specs.LinuxDeviceCgroup
	for _, d := range devices {
		out = append(out, specs.LinuxDeviceCgroup{Allow: true, Type: deviceType(d), Major: &d.Major, Minor: &d.Minor, Access: d.Access})
	}
	return out
}

// deviceNodes are the nodes of a container's own devices.
func deviceNodes(devices []sandbox.Device) []specs.LinuxDevice {
	var out []specs.LinuxDevice
	for _, d := range devices {
		mode := os.FileMode(d.Mode)
		out = append(out, specs.LinuxDevice{
			Path: d.Path, Type: deviceType(d), Major: d.Major, Minor: d.Minor, FileMode: &mode, UID: &d.UID, GID: &d.GID,
		})
	}
	return out
}

// checkDevices refuses places that are not in /dev.
func checkDevices(devices []sandbox.Device) error {
	for _, d := range devices {
		if filepath.Clean(d.Path) != d.Path || !strings.HasPrefix(d.Path, "/dev/") {
			return fmt.Errorf("device %s: its place must be below /dev", d.Path)
		}
	}
	return nil
}

// ownDeviceCgroup makes a cgroup with a container's own rules (v1), unless this
// process may not make one.
func (g *cgroup) ownDeviceCgroup(spec *sandbox.Spec, rules deviceRules) error {
	dir, ok := g.set.place("devices", spec.Limits.Parent, spec.ID)
	if !ok {
		return errors.New("confine devices: this machine has no devices cgroup")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		if isReadOnly(err) {
			return nil
		}
		return fmt.Errorf("confine devices: %w", err)
	}
	g.devices, g.paths["devices"] = dir, dir
	if err := (&cgroupfs.DevicesGroup{}).Set(dir, &cgroups.Resources{Devices: rules}); err != nil {
		return errors.Join(fmt.Errorf("confine devices: %w", err), os.Remove(dir))
	}
	return nil
}
