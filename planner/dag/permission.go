package dag

import "slices"

// Permission is something that a process may only do if it was granted: BuildKit calls
// it an entitlement.
type Permission string

// The permissions.
const (
	PermissionNetworkHost  Permission = "network.host"          // the machine's network
	PermissionNetworkNS    Permission = "network.ns"            // an existing network namespace
	PermissionInsecure     Permission = "security.insecure"     // no confinement
	PermissionCapabilities Permission = "security.capabilities" // more than the usual ones
	PermissionSeccomp      Permission = "security.seccomp"      // another profile, or none
	PermissionAppArmor     Permission = "security.apparmor"     // another profile, or none
	PermissionPaths        Permission = "security.paths"        // paths that are hidden otherwise
	PermissionVolume       Permission = "host.volume"           // folders of the machine
	PermissionDevice       Permission = "device"                // devices of the machine
	PermissionSecretLeak   Permission = "secret.leak"           // secrets in layers and logs
)

// Permissions lists all that there are.
func Permissions() []Permission {
	return []Permission{
		PermissionNetworkHost, PermissionNetworkNS, PermissionInsecure, PermissionCapabilities, PermissionSeccomp,
		PermissionAppArmor, PermissionPaths, PermissionVolume, PermissionDevice, PermissionSecretLeak,
	}
}

// Needs says which permissions the process needs. Registered says whether this machine
// has a device of a name: one that is not required and not there is ignored. Nil has none.
func (e *Exec) Needs(registered func(device string) bool) []Permission {
	_, joins := e.Network.Namespace()
	confine := e.Confine
	if confine == nil {
		confine = &Confinement{}
	}
	given := func(d Device) bool { return d.Required || registered != nil && registered(d.Name) }
	var out []Permission
	for _, n := range []struct {
		permission Permission
		needed     bool
	}{
		{PermissionInsecure, e.Security != SecuritySandbox},
		{PermissionNetworkHost, e.Network == NetHost},
		{PermissionNetworkNS, joins},
		{PermissionCapabilities, len(e.CapAdd) > 0},
		{PermissionSeccomp, confine.Seccomp != ""},
		{PermissionAppArmor, confine.AppArmor != ""},
		{PermissionPaths, len(confine.Unmask) > 0},
		{PermissionVolume, len(e.Volumes) > 0},
		{PermissionDevice, len(e.HostDevices) > 0 || slices.ContainsFunc(e.Devices, given)},
	} {
		if n.needed {
			out = append(out, n.permission)
		}
	}
	return out
}

// Grants are the permissions that were granted to a build. The zero value grants nothing.
type Grants struct{ list []Permission }

// Grant returns grants of the given permissions.
func Grant(list ...Permission) Grants { return Grants{slices.Clone(list)} }

// Has reports whether a permission was granted.
func (g Grants) Has(p Permission) bool { return slices.Contains(g.list, p) }

// Lacks returns the first permission that a process needs and was not granted; ok is
// false if there is none. Registered is that of Exec.Needs.
func (g Grants) Lacks(e *Exec, registered func(device string) bool) (p Permission, ok bool) {
	for _, p := range e.Needs(registered) {
		if !g.Has(p) {
			return p, true
		}
	}
	return "", false
}
