package snapshot

import "fmt"

// Driver is a way to make a root file system of a stack.
type Driver string

// The drivers.
const (
	// DriverOverlay mounts the layers' directories with overlay.
	DriverOverlay Driver = "overlay"
	// DriverCopy makes a directory with all files of the stack. It needs no mount
	// and no privilege.
	DriverCopy Driver = "copy"
)

// ParseDriver returns the driver with a name.
func ParseDriver(name string) (Driver, error) {
	switch d := Driver(name); d {
	case DriverOverlay, DriverCopy:
		return d, nil
	}
	return "", fmt.Errorf("unknown snapshot driver %q; there are %s and %s", name, DriverOverlay, DriverCopy)
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
