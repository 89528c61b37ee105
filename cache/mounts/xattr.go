package mounts

import "strings"

// validXattr reports whether an attribute belongs to a content: what programs set, and file
// capabilities, but nothing that has a meaning for this machine.
func validXattr(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.builder.") &&
		!strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, "user.fuseoverlayfs.") && name != "user.containers.override_stat"
}
