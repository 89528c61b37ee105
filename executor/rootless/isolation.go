package rootless

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Isolation is a rung of the ladder: how what a RUN does is kept from the rest of
// the machine.
type Isolation string

// The rungs, the strongest first.
const (
	// Root is root of the machine, or of a container that lets it mount.
	Root Isolation = "root"
	// Subuid is an ordinary user in a user namespace with ranges of ids of their
	// own (newuidmap, /etc/subuid).
	Subuid Isolation = "subuid"
	// Single is an ordinary user in a user namespace that has one id.
	Single Isolation = "single"
	// Chroot uses no namespaces: for a container that forbids them.
	Chroot Isolation = "chroot"
	// Auto is the strongest that works here.
	Auto Isolation = "auto"
)

// Rungs are all that can be asked for but Auto, the strongest first.
func Rungs() []Isolation { return []Isolation{Root, Subuid, Single, Chroot} }

// ParseIsolation reads the value of a flag. It takes buildah's and docker's names
// too.
func ParseIsolation(s string) (Isolation, error) {
	switch i := Isolation(s); {
	case s == "" || s == "default" || s == "oci": // docker's and buildah's own default
		return Auto, nil
	case s == "rootless":
		return Subuid, nil
	case i == Auto || slices.Contains(Rungs(), i):
		return i, nil
	}
	return "", fmt.Errorf("unknown isolation %q: use auto, root, subuid, single or chroot", s)
}

// Current is the rung that this process stands on: Root, Subuid or Single, and ""
// for an ordinary user who has not entered a user namespace.
func Current() Isolation {
	if os.Geteuid() != 0 {
		return ""
	}
	ids := ownMap()
	switch {
	case len(ids) == 1 && ids[0] == initialMap():
		return Root
	case count(ids) == 1:
		return Single
	case Entered():
		return Subuid
	}
	return Root // of a container that somebody else made with enough ids
}

// InUserNamespace reports whether this process is in a user namespace that is not
// the machine's first: then it can make no device nodes, and what it may mount is
// limited.
func InUserNamespace() bool {
	ids := ownMap()
	return len(ids) != 1 || ids[0] != initialMap()
}

// HostUID is the user of this process in the user namespace that Enter left, or
// that it is in if it did not enter one.
func HostUID() int {
	if !Entered() {
		return os.Geteuid()
	}
	for _, r := range ownMap() {
		if r.inside == 0 {
			return int(r.outside)
		}
	}
	return os.Geteuid()
}

// PodmanEnv are the variables by which podman and its kin know that they run in
// the user namespace of an ordinary user, and use that user's folders; none if this
// process has not entered one.
func PodmanEnv() []string {
	if !Entered() {
		return nil
	}
	return []string{"_CONTAINERS_USERNS_CONFIGURED=done", fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", HostUID()), fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", HostUID())}
}

// idRange is a line of a user namespace's map.
type idRange struct{ inside, outside, size uint32 }

func initialMap() idRange { return idRange{size: 1<<32 - 1} }

func ownMap() []idRange {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil { // a kernel without user namespaces
		return []idRange{initialMap()}
	}
	return parseMap(string(b))
}

func parseMap(s string) []idRange {
	var out []idRange
	for line := range strings.Lines(s) {
		var r idRange
		if n, _ := fmt.Sscan(line, &r.inside, &r.outside, &r.size); n == 3 {
			out = append(out, r)
		}
	}
	return out
}

func count(ids []idRange) (n uint64) {
	for _, r := range ids {
		n += uint64(r.size)
	}
	return n
}
