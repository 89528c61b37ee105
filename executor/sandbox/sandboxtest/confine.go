package sandboxtest

import (
	"fmt"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/owner"
)

func testConfinement(t *testing.T, e *Env) {
	status := e.Must(t, e.Spec("/bin/cat", "/proc/self/status"))
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t00000000a80425fb", "CapEff:\t00000000a80425fb",
		"CapBnd:\t00000000a80425fb", "CapAmb:\t0000000000000000", "NoNewPrivs:\t0", "Seccomp:\t2", filters(1),
	} {
		if !strings.Contains(status, want+"\n") {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	for _, forbidden := range []string{
		"mount -t tmpfs x /tmp", "unshare -n true", "echo 1 > /proc/sys/kernel/panic", "touch /sys/x",
		"echo h > /proc/sysrq-trigger", "hostname changed", "chroot / mount -t proc p /proc", "touch /sys/fs/cgroup/x",
		"echo 0 > /sys/fs/cgroup/devices/cgroup.procs", "echo 0 > /sys/fs/cgroup/cgroup.procs",
	} {
		if r := e.Run(t, e.Shell(forbidden)); r.Code == 0 {
			t.Errorf("%s: allowed", forbidden)
		}
	}
	if got := e.Must(t, e.Shell("cat /proc/keys /proc/timer_list /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l")); got != "0\n0" {
		t.Errorf("masked paths: %q", got)
	}
	for path, want := range map[string]string{"/proc/sys": "ro", "/sys": "ro", "/proc": "nosuid", "/dev/shm": "nodev", "/dev": "nosuid"} {
		got := e.Must(t, e.Shell("grep ' "+path+" ' /proc/mounts | cut -d' ' -f4"))
		if !strings.Contains(","+got+",", ","+want+",") {
			t.Errorf("%s: mount options %q without %s", path, got, want)
		}
	}
}

// filters is what a process's status says of its seccomp filters. Where owners are
// emulated, a filter more hands the calls over.
func filters(n int) string {
	if owner.Emulated() {
		n++
	}
	return fmt.Sprintf("Seccomp_filters:\t%d", n)
}

func testDevices(t *testing.T, e *Env) {
	got := e.Must(t, e.Shell("ls /dev | tr '\\n' ' '"))
	if strings.TrimSpace(got) != "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero" {
		t.Errorf("devices: %q", got)
	}
	if got := e.Must(t, e.Shell("head -c 4 /dev/zero | wc -c; echo x > /dev/null; head -c 3 /dev/urandom | wc -c; stat -c %a /dev/null")); got != "4\n3\n666" {
		t.Errorf("devices do not work: %q", got)
	}
	// CAP_MKNOD is there, but what is made cannot be opened.
	r := e.Run(t, e.Shell("mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem; mknod /dev/mem c 1 1 && head -c 1 /dev/mem"))
	if owner.Emulated() {
		// What stands for a device on disk is empty; nothing can stand for it in /dev.
		r = e.Run(t, e.Shell("mknod /tmp/mem c 1 1 && cat /tmp/mem; mknod /dev/mem c 1 1 && cat /dev/mem"))
		if r.Out != "" {
			t.Errorf("read %d bytes of a device that was made", len(r.Out))
		}
	} else if r.Code == 0 || !strings.Contains(r.Err, "Operation not permitted") {
		t.Errorf("device is not refused: %+v", r)
	}
	spec := e.Shell("echo x > /dev/null")
	spec.User.UID = 1000
	e.Must(t, spec)
}

func testInsecure(t *testing.T, e *Env) {
	spec := e.Shell("grep -E 'CapBnd|CapEff|Seccomp:' /proc/self/status; ls /dev/fuse /dev/loop-control; mount -t tmpfs x /tmp; mount -t tmpfs | grep -c /tmp")
	spec.Security = dag.SecurityInsecure
	got := e.Must(t, spec)
	seccomp := "Seccomp:\t0"
	if owner.Emulated() {
		seccomp = "Seccomp:\t2"
	}
	if !strings.Contains(got, seccomp) || strings.Contains(got, "a80425fb") ||
		!strings.HasSuffix(got, "/dev/fuse\n/dev/loop-control\n1") {
		t.Errorf("got %q", got)
	}
}

func testReadOnlyRoot(t *testing.T, e *Env) {
	spec := e.Shell("touch /tmp/x")
	spec.ReadOnlyRoot = true
	if r := e.Run(t, spec); r.Code == 0 || !strings.Contains(r.Err, "Read-only file system") {
		t.Errorf("got %+v", r)
	}
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
}
