package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/rootless"
)

func facts(store string) []Fact {
	out := []Fact{kernel(), namespaces()}
	out = append(out, userNamespaces()...)
	if os.Geteuid() == 0 {
		out = append(out, idMapped(store))
	}
	return append(out, fuse(), cgroups(), seccomp(), network(), handlers(), modules(), disk(store))
}

func has(name string, ok bool, value, remedy string) Fact {
	if ok {
		return Fact{name, OK, value, ""}
	}
	return Fact{name, Missing, value, remedy}
}

func kernel() Fact {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return Fact{"kernel", Info, fmt.Sprintf("%s %s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])), ""}
}

func namespaces() Fact {
	var have, lack []string
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"} {
		if _, err := os.Lstat("/proc/self/ns/" + ns); err == nil {
			have = append(have, ns)
		} else {
			lack = append(lack, ns)
		}
	}
	value := strings.Join(have, " ")
	if len(lack) > 0 {
		value += "; not " + strings.Join(lack, " ")
	}
	return Fact{"namespaces", Info, value, ""}
}

func userNamespaces() []Fact {
	reason, remedy := rootless.UserNamespaces()
	value := reason
	if reason == "" {
		value = "allowed"
	}
	ids := rootless.UserIDs()
	out := []Fact{has("user namespaces", reason == "", value, remedy)}
	if os.Getuid() == 0 { // who needs neither
		return append(out, Fact{"id ranges", Info, ids.Ranges, ""})
	}
	return append(out,
		has("id ranges", ids.Enough, ids.Ranges, ids.Remedy),
		has("id helpers", !ids.Missing, ids.Helpers, "sudo apt-get install uidmap"))
}

func fuse() Fact {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return Fact{"/dev/fuse", Missing, "needed for fuse-overlayfs only: " + errText(err), "sudo chmod 666 /dev/fuse"}
	}
	f.Close()
	return Fact{"/dev/fuse", OK, "can be opened", ""}
}

// cgroups says which version, and whether this user may make cgroups.
func cgroups() Fact {
	const root = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return Fact{"cgroups", Missing, "none are mounted: resources are not limited", ""}
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return cgroup2(root, string(own))
	}
	var writable, all []string
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] == "" || strings.HasPrefix(f[1], "name=") {
			continue
		}
		all = append(all, f[1])
		dir := filepath.Join(root, f[1], f[2])
		if _, err := os.Stat(dir); err != nil {
			dir = filepath.Join(root, f[1])
		}
		if unix.Access(dir, unix.W_OK) == nil {
			writable = append(writable, f[1])
		}
	}
	if len(writable) == 0 {
		return Fact{"cgroups", Missing, "version 1 (" + strings.Join(all, " ") + "), not writable: resources are not limited by them", "boot with systemd.unified_cgroup_hierarchy=1 and delegate the user's cgroup"}
	}
	return Fact{"cgroups", OK, "version 1: " + strings.Join(writable, " "), ""}
}

func cgroup2(root, own string) Fact {
	_, path, _ := strings.Cut(strings.TrimSpace(own), "0::")
	controllers, _ := os.ReadFile(filepath.Join(root, path, "cgroup.controllers"))
	value := "version 2: " + strings.Join(strings.Fields(string(controllers)), " ")
	return has("cgroups", unix.Access(filepath.Dir(filepath.Join(root, path)), unix.W_OK) == nil, value,
		"run builder in a delegated cgroup: systemd-run --user --scope -p Delegate=yes builder …")
}

func seccomp() Fact {
	b, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil {
		return Fact{"seccomp", Missing, "this kernel has no filters (CONFIG_SECCOMP_FILTER)", ""}
	}
	value := "filters"
	if strings.Contains(string(b), "user_notif") {
		value += ", notification"
	}
	return Fact{"seccomp", OK, value, ""}
}

func network() Fact {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return Fact{"network", OK, "by veth: /dev/net/tun cannot be opened", ""}
	}
	f.Close()
	return Fact{"network", OK, "by TAP device", ""}
}

func handlers() Fact {
	entries, err := os.ReadDir("/proc/sys/fs/binfmt_misc")
	var names []string
	for _, e := range entries {
		if e.Name() != "register" && e.Name() != "status" {
			names = append(names, e.Name())
		}
	}
	if err != nil || len(names) == 0 {
		return Fact{"binfmt", Missing, "no handlers: images of other architectures can be built without RUN", "sudo apt-get install qemu-user-static"}
	}
	return Fact{"binfmt", OK, strings.Join(names, " "), ""}
}

func modules() Fact {
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	value := strings.TrimSpace(string(b))
	if err != nil || value == "" {
		value = "unknown"
	}
	return Fact{"security modules", Info, value, ""}
}
