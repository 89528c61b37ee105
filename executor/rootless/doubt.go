package rootless

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Trial starts a process on a rung, in a child of this one, and says why that does not
// work; nil if it does.
type Trial func(Way) error

// Doubtful reports whether something around this process, a container most likely, may
// forbid what its rung seems to allow: system calls are filtered, a profile is in force, or
// parts of /proc are covered. Whether a rung works is only known then when it was tried.
func Doubtful() bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return filtered() || profiled() || err == nil && procCovered(string(mounts))
}

// filtered reports whether system calls of this process are filtered.
func filtered() bool {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && mode != 0
}

// profiled reports whether AppArmor confines this process, or will in a user namespace.
func profiled() bool {
	b, err := os.ReadFile("/proc/self/attr/current")
	if err != nil {
		b = nil
	}
	a := apparmor()
	v, err := setting(a.path)
	return profileForbids(string(b), os.Geteuid() != 0 && err == nil && v == a.forbids)
}

// profileForbids reports whether AppArmor may forbid something to a process, of which
// /proc/self/attr/current says this. Restricted are users' namespaces for programs that
// have no profile of their own.
func profileForbids(current string, restricted bool) bool {
	current = strings.TrimRight(current, "\x00\n")
	return strings.HasSuffix(current, "(enforce)") || restricted && !strings.HasSuffix(current, " (unconfined)")
}

// procCovered reports whether something of a list of mounts is in /proc. Another one cannot
// be mounted then in a user namespace: it would show what is covered.
func procCovered(mounts string) bool {
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		// What is mounted on a directory that is always empty covers nothing.
		if len(f) > 4 && strings.HasPrefix(f[4], "/proc/") && f[4] != "/proc/sys/fs/binfmt_misc" {
			return true
		}
	}
	return false
}
