package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // device rules of cgroups; without it containers are refused
	deviceconfig "github.com/opencontainers/cgroups/devices/config"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
)

// confineDevices chooses the cgroup that says which devices may be used (v1).
func (g *Group) confineDevices(spec *sandbox.Spec, rules deviceRules) error {
	if len(spec.Devices) > 0 || spec.Limits.Parent != "" {
		return g.ownDeviceCgroup(spec, rules)
	}
	dir, err := g.set.deviceCgroup(rules)
	if dir != "" {
		g.paths["devices"] = dir
	}
	return err
}

func isReadOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// deviceCgroup returns the cgroup with the default rules, "" if this process may
// not make one (it is in a container then, whose rules hold).
func (c *Set) deviceCgroup(rules deviceRules) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.devices != "" {
		return c.devices, nil
	}
	own, ok := c.own["devices"]
	if !ok {
		return "", errors.New("confine devices: this machine has no devices cgroup")
	}
	dir := filepath.Join(own, parentName, c.prefix+"default")
	err := os.MkdirAll(dir, 0o755)
	if isReadOnly(err) {
		return "", nil
	}
	if err == nil {
		err = (&cgroupfs.DevicesGroup{}).Set(dir, &cgroups.Resources{Devices: rules})
	}
	if err != nil {
		return "", fmt.Errorf("confine devices: %w", err)
	}
	c.devices = dir
	return dir, nil
}

// ownDeviceCgroup makes a cgroup with a container's own rules (v1), unless this
// process may not make one.
func (g *Group) ownDeviceCgroup(spec *sandbox.Spec, rules deviceRules) error {
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

// deviceRulesOf let a container use its own devices.
func deviceRulesOf(devices []sandbox.Device) []specs.LinuxDeviceCgroup {
	var out []specs.LinuxDeviceCgroup
	for _, d := range devices {
		out = append(out, specs.LinuxDeviceCgroup{Allow: true, Type: d.Kind(), Major: &d.Major, Minor: &d.Minor, Access: d.Access})
	}
	return out
}

// DropTUN takes from libcontainer's list of devices, which keeps it for old users'
// sake, the one that makes network interfaces, unless it was asked for.
func DropTUN(r *cgroups.Resources, devices []sandbox.Device) {
	const major, minor = 10, 200
	for _, d := range devices {
		if d.Major == major && d.Minor == minor {
			return
		}
	}
	r.Devices = slices.DeleteFunc(r.Devices, func(d *deviceconfig.Rule) bool { return d.Major == major && d.Minor == minor })
}
