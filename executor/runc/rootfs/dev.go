package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// populateDev makes the device nodes and links of a minimal /dev.
func (r *Root) populateDev(devices []specs.LinuxDevice) error {
	dev := r.over[len(r.over)-1]
	for _, d := range append(defaultDevices(), devices...) {
		path := filepath.Join(dev, strings.TrimPrefix(d.Path, "/dev/"))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil && r.opts.Borrowed {
			err = bindDevice(path, d)
		} else if err == nil {
			err = r.makeDevice(path, d)
		}
		if err != nil {
			return fmt.Errorf("make device %s: %w", d.Path, err)
		}
	}
	links := [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
	}
	if _, err := os.Lstat("/proc/kcore"); err == nil {
		links = append(links, [2]string{"/proc/kcore", "core"})
	}
	for _, l := range links {
		if err := os.Symlink(l[0], filepath.Join(dev, l[1])); err != nil {
			return fmt.Errorf("make /dev/%s: %w", l[1], err)
		}
	}
	return nil
}

func (r *Root) makeDevice(path string, d specs.LinuxDevice) error {
	mode := uint32(unix.S_IFCHR)
	if d.Type == "b" {
		mode = unix.S_IFBLK
	}
	if err := unix.Mknod(path, mode|0o666, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor)))); err != nil {
		return err
	}
	if d.FileMode == nil {
		return nil
	}
	return errors.Join(os.Chown(path, r.opts.Users.Outer(*d.UID), r.opts.Users.Outer(*d.GID)), unix.Chmod(path, uint32(*d.FileMode)))
}

// bindDevice shows this machine's node, where none can be made: its owner and mode
// stay what they are. Of what insecure processes may use, what is missing is left
// out.
func bindDevice(path string, d specs.LinuxDevice) error {
	src, err := hostDevice(d)
	if err != nil {
		if d.FileMode == nil && !isDefaultDevice(d) {
			return nil
		}
		return err
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	return bindAt(src, path, 0)
}

// hostDevice finds this machine's node for a device: usually it has the same path.
func hostDevice(d specs.LinuxDevice) (string, error) {
	candidates := []string{d.Path}
	kind := "char"
	if d.Type == "b" {
		kind = "block"
	}
	if name, err := os.Readlink(fmt.Sprintf("/sys/dev/%s/%d:%d", kind, d.Major, d.Minor)); err == nil {
		candidates = append(candidates, "/dev/"+filepath.Base(name))
	}
	for _, path := range candidates {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&(unix.S_IFCHR|unix.S_IFBLK) != 0 && st.Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
			return path, nil
		}
	}
	return "", fmt.Errorf("this machine has no node %s (%d:%d), and none can be made in a user namespace", d.Path, d.Major, d.Minor)
}

func isDefaultDevice(d specs.LinuxDevice) bool {
	return slices.ContainsFunc(defaultDevices(), func(o specs.LinuxDevice) bool { return o.Path == d.Path })
}

func defaultDevices() []specs.LinuxDevice {
	return []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
		{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
		{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
		{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
		{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
		{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
	}
}

// devicesOf are the nodes that a container has beside the usual ones.
func devicesOf(spec *sandbox.Spec) []specs.LinuxDevice {
	var devices []specs.LinuxDevice
	if spec.Security == dag.SecurityInsecure {
		devices = insecureDevices()
	}
	return append(devices, deviceNodes(spec.Devices)...)
}

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
