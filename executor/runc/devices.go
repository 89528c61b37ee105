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
