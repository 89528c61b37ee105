package rootless

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Way is how a process gets onto a rung.
type Way struct {
	// Isolation is the rung.
	Isolation Isolation
	// Lacks says why it is not a stronger one; nil if it is the strongest.
	Lacks *Lack

	how, uids, gids string // for enter.c; uids is "" if nothing is to be done
}

// Lack is why a rung cannot be used, and what would change that.
type Lack struct {
	Rung   Isolation
	Reason string
	Remedy string // a command or setting; "" if there is none
}

// Error implements error.
func (l *Lack) Error() string {
	return fmt.Sprintf("isolation %q does not work here: %s", l.Rung, l.Reason)
}

// NoStronger adds to the last rung's lack why it was to be used at all.
func (l *Lack) NoStronger(why string) { l.Reason += "; nor does a stronger one: " + why }

// Choose returns how this process gets onto the rung that is wanted; the error
// for one that does not work here is a *Lack. Rungs that seem to work are tried, unless
// try is nil or the process is in a user namespace that it entered.
func Choose(want Isolation, try Trial) (Way, error) {
	if Entered() {
		try = nil
	}
	here := Current()
	if want == Chroot {
		return chrootWay()
	}
	if here != "" && (want == Auto || want == here) {
		return chosenHere(here, want, try)
	}
	if lack := rootLack(here); want == Root {
		return Way{}, lack
	}
	switch want {
	case Subuid:
		return try.of(subuidWay())
	case Single:
		return try.of(singleWay())
	}
	way, err := try.of(subuidWay())
	if err == nil {
		return way, nil
	}
	lack, ok := err.(*Lack)
	if !ok {
		return Way{}, err
	}
	if way, err = try.of(singleWay()); err != nil {
		return lastWay(lack)
	}
	way.Lacks = lack
	return way, nil
}

// of tries a rung that was found.
func (t Trial) of(w Way, err error) (Way, error) {
	if err != nil || t == nil {
		return w, err
	}
	if err := t(w); err != nil {
		return Way{}, w.Fails(err)
	}
	return w, nil
}

// Fails says that the rung does not work, since a process could not be started on it.
func (w Way) Fails(err error) *Lack {
	lack := &Lack{Rung: w.Isolation, Reason: err.Error(), Remedy: NamespaceHint()}
	if lack.Remedy == "" {
		lack.Remedy = "in a container: allow it user namespaces and mounts (docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
	}
	return lack
}

// lastWay is Chroot where no stronger rung works.
func lastWay(why *Lack) (Way, error) {
	way, err := chrootWay()
	if lack, ok := err.(*Lack); ok {
		lack.NoStronger(why.Reason)
	}
	way.Lacks = why
	return way, err
}

// chosenHere is for a process that is on a rung already.
func chosenHere(here, want Isolation, try Trial) (Way, error) {
	way := Way{Isolation: here}
	lack := rootLack(here)
	if here != Root {
		lack = nil // in the user namespace it is
	}
	if lack == nil {
		var err error
		if way, err = try.of(way, nil); err == nil {
			return way, nil
		} else if !errors.As(err, &lack) {
			return Way{}, err
		}
	}
	if want == here {
		return Way{}, lack
	}
	return lastWay(lack)
}

// rootLack says why a process is not root of the machine.
func rootLack(here Isolation) *Lack {
	switch {
	case here == Root && mayMount():
		return nil
	case here == Root:
		return &Lack{Root, "this container does not let root mount (no CAP_SYS_ADMIN)", "run the container with --privileged, or with --cap-add SYS_ADMIN and no seccomp or AppArmor confinement"}
	}
	return &Lack{Root, "the user is not root", "sudo builder …"}
}

// mayMount reports whether this process has CAP_SYS_ADMIN, in its user namespace.
func mayMount() bool { return has(unix.CAP_SYS_ADMIN) }

func mayTrace() bool { return has(unix.CAP_SYS_PTRACE) }

// has reports whether a capability below 32 is in force.
func has(capability int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<capability) != 0
}

// subuidWay maps the user to 0 and the user's ranges after it.
func subuidWay() (Way, error) {
	if lack := namespaceLack(Subuid); lack != nil {
		return Way{}, lack
	}
	uids, err := oneWay("newuidmap", "/etc/subuid", os.Geteuid())
	if err != nil {
		return Way{}, err
	}
	gids, err := oneWay("newgidmap", "/etc/subgid", os.Getegid())
	if err != nil {
		return Way{}, err
	}
	return Way{Isolation: Subuid, how: "mapped", uids: uids, gids: gids}, nil
}

// oneWay is the command that maps the ranges of one file.
func oneWay(program, file string, own int) (string, error) {
	ids, err := readSubIDs(file, os.Getuid())
	if err != nil {
		return "", fmt.Errorf("read ranges of ids: %w", err)
	}
	if n := count(ids.own); n < wantedIDs {
		return "", rangeLack(file, n)
	}
	path, err := findHelper(program)
	if err != nil {
		return "", &Lack{Subuid, program + " is not installed", "sudo apt-get install uidmap   (Fedora, RHEL: dnf install shadow-utils-subid; Alpine: apk add shadow-uidmap)"}
	}
	return path + " " + format(mapping(own, ids.own), " "), nil
}

// findHelper looks where a user's PATH may not lead.
func findHelper(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil && strings.HasPrefix(path, "/") && !strings.Contains(path, " ") {
		return path, nil
	}
	return exec.LookPath("/usr/bin/" + name)
}

func rangeLack(file string, n uint64) *Lack {
	uid := os.Getuid()
	reason := fmt.Sprintf("%s has no range for %s", file, userName(uid))
	if n > 0 {
		reason = fmt.Sprintf("%s has %d ids for %s, and an image may use %d", file, n, userName(uid), wantedIDs)
	}
	return &Lack{Subuid, reason, addRanges(uid)}
}

// addRanges is the command that gives a user ranges, where both files are free.
func addRanges(uid int) string {
	first := uint32(firstFree)
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if ids, err := readSubIDs(file, uid); err == nil {
			first = max(first, ids.free)
		}
	}
	last := first + wantedIDs
	return fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %d-%d %s", first, last, first, last, userName(uid))
}

// singleWay maps the user's own id.
func singleWay() (Way, error) {
	if lack := namespaceLack(Single); lack != nil {
		return Way{}, lack
	}
	return Way{
		Isolation: Single, how: "single",
		uids: format(mapping(os.Geteuid(), nil), "\n"), gids: format(mapping(os.Getegid(), nil), "\n"),
	}, nil
}
