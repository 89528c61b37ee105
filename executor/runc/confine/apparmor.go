package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dockerProfile is the AppArmor profile that Docker loads, and podman under another
// name.
const dockerProfile = "docker-default"

// AppArmor reports whether this machine has AppArmor, and which of the names are
// loaded profiles.
func AppArmor(sys string, names ...string) (enabled bool, loaded []string) {
	b, err := os.ReadFile(filepath.Join(sys, "module/apparmor/parameters/enabled"))
	if err != nil || !strings.HasPrefix(string(b), "Y") {
		return false, nil
	}
	list, _ := os.ReadFile(filepath.Join(sys, "kernel/security/apparmor/profiles")) // for root only
	for line := range strings.Lines(string(list)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " (")
		if slices.Contains(names, name) {
			loaded = append(loaded, name)
		}
	}
	return true, loaded
}

// defaultAppArmor is Docker's profile, if it is loaded.
func defaultAppArmor(sys string) string {
	if _, loaded := AppArmor(sys, dockerProfile); len(loaded) > 0 {
		return dockerProfile
	}
	return ""
}
