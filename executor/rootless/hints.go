package rootless

import (
	"os"
	"strings"
)

// namespaceLack says why no user namespace can be made here, as far as that can
// be known without trying.
func namespaceLack(rung Isolation) *Lack {
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return &Lack{rung, "this kernel has no user namespaces (CONFIG_USER_NS)", ""}
	}
	for _, s := range settings() {
		if v, err := setting(s.path); err == nil && v == s.forbids {
			return &Lack{rung, s.reason, s.remedy}
		}
	}
	return nil
}

// knob is a setting of the kernel that forbids user namespaces.
type knob struct{ path, forbids, reason, remedy string }

func settings() []knob {
	return []knob{
		{
			"/proc/sys/user/max_user_namespaces", "0",
			"user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=15000",
		},
		{
			"/proc/sys/kernel/unprivileged_userns_clone", "0",
			"kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1",
		},
	}
}

// apparmor is Ubuntu's restriction. It lifts itself for programs with a profile
// that says so, so that it is a reason only when a namespace was of no use.
func apparmor() knob {
	return knob{
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
		"AppArmor restricts user namespaces of ordinary users", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
	}
}

// NamespaceHint is what would lift it when the kernel refused a user namespace.
func NamespaceHint() string {
	for _, s := range append(settings(), apparmor()) {
		if v, err := setting(s.path); err == nil && v == s.forbids {
			return s.remedy
		}
	}
	return ""
}

func setting(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
