package flags

import (
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// maxProfile bounds a seccomp profile.
const maxProfile = 4 << 20

// parseSecurityOptions reads --security-opt: NAME=VALUE each, the options of docker
// and buildah. It also returns the seccomp profile that was read, by its name.
func parseSecurityOptions(values []string) (*dag.Confinement, map[digest.Digest][]byte, error) {
	if len(values) == 0 {
		return nil, nil, nil
	}
	c := &dag.Confinement{}
	profiles := map[digest.Digest][]byte{}
	for _, v := range values {
		name, value, has := strings.Cut(v, "=")
		var err error
		switch name {
		case "no-new-privileges":
			c.NoNewPrivileges = true
			if has {
				if c.NoNewPrivileges, err = strconv.ParseBool(value); err != nil {
					err = mistake.New("--security-opt %s: want true or false", v)
				}
			}
		case "seccomp":
			c.Seccomp, err = seccompOption(value, profiles)
		case "apparmor":
			c.AppArmor, err = apparmorOption(value)
		case "label":
			if value != "disable" {
				err = mistake.Unsupported("--security-opt "+v, "steps get no SELinux labels of their own")
			}
		case "mask":
			c.Mask, err = pathList(v, value, c.Mask)
		case "unmask":
			if value == dag.UnmaskAll {
				c.Unmask = []string{dag.UnmaskAll}
			} else {
				c.Unmask, err = pathList(v, value, c.Unmask)
			}
		case "systempaths":
			if value != "unconfined" {
				err = mistake.New("--security-opt %s: want systempaths=unconfined", v)
			}
			c.Unmask = []string{dag.UnmaskAll}
		default:
			err = mistake.Unsupported("--security-opt "+v, "use seccomp, apparmor, no-new-privileges, mask or unmask")
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if c.Seccomp == "" && c.AppArmor == "" && !c.NoNewPrivileges && len(c.Mask)+len(c.Unmask) == 0 {
		return nil, nil, nil
	}
	return c, profiles, nil
}

// seccompOption reads a profile into profiles. It is named by its content.
func seccompOption(value string, profiles map[digest.Digest][]byte) (name string, err error) {
	switch value {
	case "":
		return "", mistake.New("--security-opt seccomp: want a file or unconfined")
	case "default", "builtin":
		return "", nil
	case dag.SeccompUnconfined:
		return value, nil
	}
	f, err := os.Open(value)
	if err != nil {
		return "", mistake.New("--security-opt seccomp: %w", err)
	}
	defer f.Close()
	profile, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err == nil && len(profile) > maxProfile {
		return "", mistake.New("--security-opt seccomp: %s is larger than %d bytes", value, maxProfile)
	}
	if err == nil {
		err = confine.CheckSeccomp(profile)
	}
	if err != nil {
		return "", mistake.New("--security-opt seccomp=%s: %w", value, err)
	}
	d := digest.FromBytes(profile)
	profiles[d] = profile
	return d.String(), nil
}

func apparmorOption(value string) (string, error) {
	if value == "" {
		return "", mistake.New("--security-opt apparmor: want a profile or unconfined")
	}
	if value == "unconfined" {
		return value, nil
	}
	enabled, loaded := confine.AppArmor("/sys", value)
	switch {
	case !enabled:
		return "", mistake.New("--security-opt apparmor=%s: this machine has no AppArmor", value).WithHint("without the option it is used where it is there")
	case len(loaded) == 0 && os.Geteuid() == 0:
		return "", mistake.New("--security-opt apparmor=%s: the profile is not loaded", value).WithHint("load it with apparmor_parser")
	}
	return value, nil
}

// pathList adds the paths of a list with colons.
func pathList(option, value string, to []string) ([]string, error) {
	for p := range strings.SplitSeq(value, ":") {
		if !path.IsAbs(p) || path.Clean(p) == "/" {
			return nil, mistake.New("--security-opt %s: %q is not an absolute path", option, p)
		}
		to = append(to, path.Clean(p))
	}
	slices.Sort(to)
	return slices.Compact(to), nil
}
