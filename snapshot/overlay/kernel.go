package overlay

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return a > major || (a == major && b >= minor)
}

// supportsAppend reports whether overlay takes lowerdir+ (Linux 6.5).
func supportsAppend() bool { return kernelAtLeast(6, 5) }

// mountOld mounts with mount(2), whose options are at most one page long.
func (s Spec) mountOld(target string) error {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace
	var lower []string
	for _, l := range s.Lower {
		lower = append(lower, escape(l))
	}
	opts := append(s.options(), "lowerdir="+strings.Join(lower, ":"))
	flags := uintptr(unix.MS_RDONLY)
	if s.Upper != "" {
		flags = 0
		opts = append(opts, "upperdir="+escape(s.Upper), "workdir="+escape(s.Work))
	}
	data := strings.Join(opts, ",")
	if len(data) >= unix.Getpagesize() {
		return fmt.Errorf("mount overlay of %d layers: this kernel (before 6.5) takes fewer; their names need %d bytes", len(s.Lower), len(data))
	}
	if err := unix.Mount("overlay", target, "overlay", flags, data); err != nil {
		return fmt.Errorf("mount overlay of %d layers at %s: %w", len(s.Lower), target, err)
	}
	return nil
}
