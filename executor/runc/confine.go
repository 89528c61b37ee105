package runc

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// unconfined says that a process has no seccomp filter of its own.
func unconfined(spec *sandbox.Spec) bool {
	return spec.Confine != nil && spec.Confine.Seccomp == dag.SeccompUnconfined
}

// CheckSeccomp reports whether a profile in Docker's form can be used.
func CheckSeccomp(profile []byte) error {
	_, err := seccompFor(&sandbox.Spec{SeccompProfile: profile})
	return err
}

// hidden are the paths that a process does not see, and those that it cannot
// change.
func (s *Sandbox) hidden(c *dag.Confinement) (masked, readonly []string) {
	masked, readonly = s.masked, readonlyPaths()
	if c == nil {
		return masked, readonly
	}
	shown := func(p string) bool {
		return slices.ContainsFunc(c.Unmask, func(u string) bool {
			match, err := path.Match(u, p)
			return u == dag.UnmaskAll || u == p || strings.HasPrefix(p, u+"/") || err == nil && match
		})
	}
	masked = slices.DeleteFunc(slices.Clone(masked), shown)
	readonly = slices.DeleteFunc(readonly, shown)
	return append(masked, c.Mask...), readonly
}

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

// apparmor is the profile of a process.
func (s *Sandbox) apparmor(c *dag.Confinement) string {
	switch {
	case c == nil || c.AppArmor == "":
		return s.defaultAppArmor
	case c.AppArmor == "unconfined":
		return ""
	}
	return c.AppArmor
}
