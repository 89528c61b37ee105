package flags

import (
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"

	"layered.build/builder/executor/sandbox/netrule"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
)

// runOptionFlags are what every RUN gets beside the Dockerfile's own wishes.
type runOptionFlags struct {
	dns, dnsSearch, dnsOptions []string
	networkAllow               []string
	capAdd, capDrop            []string
	volumes, devices           []string
	security                   []string
}

func (r *runOptionFlags) register(fs *pflag.FlagSet) {
	SliceVar(fs, &r.dns, "dns", "", "name server of RUN")
	SliceVar(fs, &r.dnsSearch, "dns-search", "", "domain in which RUN looks names up")
	SliceVar(fs, &r.dnsOptions, "dns-option", "", "option of RUN's resolver (ndots:2)")
	SliceVar(fs, &r.networkAllow, "network-allow", "", "the only hosts that RUN may talk to, HOST[:PORT]: a name, *.example.org, an address or a subnet")
	SliceVar(fs, &r.capAdd, "cap-add", "", "capability that RUN gets beside the usual ones; needs --allow security.capabilities")
	SliceVar(fs, &r.capDrop, "cap-drop", "", "capability that RUN does not get, or all")
	ArrayVar(fs, &r.security, "security-opt", "", "how RUN is confined: seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, no-new-privileges, mask=PATH[:PATH], unmask=ALL|PATH[:PATH]")
	ArrayVar(fs, &r.volumes, "volume", "v", "folder of this machine for RUN, HOST:PATH[:ro|O]; needs --allow host.volume and is never cached")
	ArrayVar(fs, &r.devices, "device", "", "device for RUN, /dev/NODE[:PATH][:rwm] or a CDI name; needs --allow device")
}

// options checks the values. It also returns the seccomp profiles that are among them, by
// their names.
func (r *runOptionFlags) options() (out planner.RunOptions, profiles map[digest.Digest][]byte, err error) {
	for _, s := range r.dns {
		if _, err := netip.ParseAddr(s); err != nil {
			return out, nil, mistake.New("--dns %q is not an IP address", s).WithHint("for no network at all use --network none")
		}
	}
	for _, s := range append(slices.Clone(r.dnsSearch), r.dnsOptions...) {
		if s == "" || strings.ContainsAny(s, " \t\r\n") {
			return out, nil, mistake.New("--dns-search, --dns-option: %q is not a word", s)
		}
	}
	if len(r.dns)+len(r.dnsSearch)+len(r.dnsOptions) > 0 {
		out.DNS = &dag.DNS{Servers: r.dns, Search: r.dnsSearch, Options: r.dnsOptions}
	}
	if out.NetworkAllow, err = allowedHosts(r.networkAllow); err != nil {
		return out, nil, err
	}
	if out.Confine, profiles, err = parseSecurityOptions(r.security); err != nil {
		return out, nil, err
	}
	if out.CapAdd, err = capabilityNames("--cap-add", r.capAdd); err != nil {
		return out, nil, err
	}
	if out.CapDrop, err = capabilityNames("--cap-drop", r.capDrop); err != nil {
		return out, nil, err
	}
	for _, v := range r.volumes {
		vol, err := parseRunVolume(v)
		if err != nil {
			return out, nil, err
		}
		out.Volumes = append(out.Volumes, vol)
	}
	for _, v := range r.devices {
		if !strings.HasPrefix(v, "/") {
			out.Devices = append(out.Devices, dag.Device{Name: v, Required: true})
			continue
		}
		d, err := parseDevice(v)
		if err != nil {
			return out, nil, err
		}
		out.HostDevices = append(out.HostDevices, d)
	}
	return out, profiles, nil
}

// allowedHosts checks --network-allow and brings it into one form and order.
func allowedHosts(values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		rule, err := netrule.Parse(v)
		if err != nil {
			return nil, mistake.New("--network-allow: %w", err)
		}
		out = append(out, rule.String())
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// capabilityNames brings names into the form CAP_SYS_ADMIN, or ALL.
func capabilityNames(flag string, values []string) ([]string, error) {
	var out []string
	for _, v := range values {
		name := strings.ToUpper(strings.TrimSpace(v))
		if name == "ALL" {
			return []string{"ALL"}, nil
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(dag.Capabilities(), name) {
			return nil, mistake.New("%s %s: there is no such capability", flag, v)
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// parseRunVolume reads HOST:PATH[:ro|rw|O].
func parseRunVolume(s string) (dag.Volume, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
		return dag.Volume{}, mistake.New("--volume %q: want HOST:PATH[:ro|O]", s)
	}
	if !filepath.IsAbs(parts[0]) && !strings.HasPrefix(parts[0], ".") {
		return dag.Volume{}, mistake.Unsupported("--volume "+s, "named volumes do not exist here; RUN --mount=type=cache keeps files between builds")
	}
	src, err := filepath.Abs(parts[0])
	if err == nil {
		src, err = filepath.EvalSymlinks(src)
	}
	if err != nil {
		return dag.Volume{}, mistake.New("--volume %q: %w", s, err)
	}
	v := dag.Volume{Source: src, Dest: path.Clean(parts[1])}
	if len(parts) < 3 {
		return v, nil
	}
	for option := range strings.SplitSeq(parts[2], ",") {
		switch option {
		case "ro":
			v.ReadOnly = true
		case "rw", "":
		case "O":
			v.Overlay = true
		default:
			return v, mistake.Unsupported("--volume option "+option, "use ro, rw or O")
		}
	}
	return v, nil
}

// parseDevice reads /dev/NODE[:PATH][:rwm].
func parseDevice(s string) (dag.HostDevice, error) {
	parts := strings.Split(s, ":")
	d := dag.HostDevice{Source: filepath.Clean(parts[0]), Access: "rwm"}
	d.Dest = d.Source
	rest := parts[1:]
	if len(rest) > 0 && strings.HasPrefix(rest[0], "/") {
		d.Dest, rest = path.Clean(rest[0]), rest[1:]
	}
	if len(rest) > 0 && rest[0] != "" && strings.Trim(rest[0], "rwm") == "" {
		d.Access, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 || !strings.HasPrefix(d.Dest, "/dev/") {
		return d, mistake.New("--device %q: want /dev/NODE[:/dev/PATH][:rwm]", s)
	}
	return d, nil
}
