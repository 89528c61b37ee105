package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/folder"
	"layered.build/builder/snapshot/overlay"
)

// Driver is a way to make a root file system of a stack.
type Driver string

// The drivers.
const (
	// DriverOverlay mounts the layers' directories with overlay.
	DriverOverlay Driver = "overlay"
	// DriverFuse does so by the program fuse-overlayfs.
	DriverFuse Driver = "fuse-overlayfs"
	// DriverCopy makes a directory with all files of the stack. It needs no mount
	// and no privilege.
	DriverCopy Driver = "copy"
)

// ParseDriver returns the driver with a name.
func ParseDriver(name string) (Driver, error) {
	switch d := Driver(name); d {
	case DriverOverlay, DriverFuse, DriverCopy:
		return d, nil
	}
	return "", fmt.Errorf("unknown snapshot driver %q; there are %s, %s and %s", name, DriverOverlay, DriverFuse, DriverCopy)
}

// Dir returns the directory that a mount is, if it needs no mounting: a stack that
// DriverCopy laid out, or a single layer.
func (m Mount) Dir() (dir string, ok bool) {
	switch {
	case len(m.Lower) == 0 && m.Upper != "":
		return m.Upper, true
	case len(m.Lower) == 1 && m.Upper == "":
		return m.Lower[0], true
	}
	return "", false
}

// ChooseDriver returns the fastest driver that works in a store's folder, which is
// made if it is missing (see Open), and for every faster one why it does not work. That the
// kernel's overlay works is noted in the folder, so that it is tried only once.
func ChooseDriver(root string) (Driver, map[Driver]error, error) {
	if err := folder.Claim(root); err != nil {
		return "", nil, fmt.Errorf("open store: %w", err)
	}
	note, here := filepath.Join(root, driverFile), probedHere()
	if was, err := os.ReadFile(note); err == nil && string(was) == here {
		return DriverOverlay, nil, nil
	}
	lacks := map[Driver]error{}
	if err := overlay.Probe(root, overlay.Mount); err != nil {
		lacks[DriverOverlay] = err
	} else {
		_ = os.WriteFile(note, []byte(here), 0o600) // otherwise it is tried again
		return DriverOverlay, lacks, nil
	}
	if err := overlay.Probe(root, overlay.MountFuse); err != nil {
		lacks[DriverFuse] = err
		return DriverCopy, lacks, nil
	}
	return DriverFuse, lacks, nil
}

// driverFile is the note that overlay works.
const driverFile = "driver"

// probedHere is what decides whether overlay works, beside the folder: the kernel
// and who this process is.
func probedHere() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	ids, _ := os.ReadFile("/proc/self/uid_map")
	return fmt.Sprintf("%s %s %d %s\n", DriverOverlay, unix.ByteSliceToString(u.Release[:]), os.Geteuid(), strings.Join(strings.Fields(string(ids)), ","))
}
