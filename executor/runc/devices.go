package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
)

// deviceNodes are the nodes of a container's own devices.
func deviceNodes(devices []sandbox.Device) []specs.LinuxDevice {
	var out []specs.LinuxDevice
	for _, d := range devices {
		mode := os.FileMode(d.Mode)
		out = append(out, specs.LinuxDevice{
			Path: d.Path, Type: d.Kind(), Major: d.Major, Minor: d.Minor, FileMode: &mode, UID: &d.UID, GID: &d.GID,
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
