package sandboxtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

func testMounts(t *testing.T, e *Env) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "content")
	spec := e.Shell(`cat /bind/file /file; echo new > /bind/new; touch /ro/x 2>/dev/null || echo read-only
		grep ' /scratch ' /proc/mounts; stat -c %a /scratch; touch /scratch/x; echo y > /file`)
	spec.Mounts = []sandbox.Mount{
		{Dest: "/bind", HostPath: dir},
		{Dest: "/file", HostPath: filepath.Join(dir, "file")},
		{Dest: "/ro", HostPath: dir, ReadOnly: true},
		{Dest: "/scratch", Tmpfs: &sandbox.Tmpfs{Size: 128 << 20, Mode: 0o750}},
	}
	got := e.Must(t, spec)
	wanted := []string{"contentcontent", "read-only", "size=131072k", "750"}
	if e.plain {
		wanted = slices.DeleteFunc(wanted, func(s string) bool { return strings.HasPrefix(s, "size") })
	}
	for _, want := range wanted {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || string(b) != "new\n" {
		t.Errorf("written through the mount: %q %v", b, err)
	}
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
}

func testSnapshotMount(t *testing.T, e *Env) {
	spec := e.Shell("cat /src/passwd | wc -l; cat /one; touch /src/x 2>/dev/null || echo read-only")
	view := snapshot.Mount{Lower: []string{e.Lower}}
	spec.Mounts = []sandbox.Mount{
		{Dest: "/src", Snapshot: view, Selector: "/etc", ReadOnly: true},
		{Dest: "/one", Snapshot: view, Selector: "etc/group", ReadOnly: true},
	}
	if got := e.Must(t, spec); got != "2\nroot:x:0:\napp:x:1000:\nextra:x:2000:app\nread-only" {
		t.Errorf("got %q", got)
	}
	spec = e.Shell("true")
	spec.Mounts = []sandbox.Mount{{Dest: "/src", Snapshot: view, Selector: "/nowhere"}}
	if _, err := e.Sandbox.Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("missing path: %v", err)
	}
}

func testNestedMounts(t *testing.T, e *Env) {
	outer, inner := t.TempDir(), t.TempDir()
	write(t, filepath.Join(inner, "deep"), "deep")
	spec := e.Shell("cat /a/b/deep; echo x > /a/b/made")
	spec.Mounts = []sandbox.Mount{{Dest: "/a", HostPath: outer}, {Dest: "/a/b", HostPath: inner}}
	if got := e.Must(t, spec); got != "deep" {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(filepath.Join(inner, "made")); err != nil {
		t.Error(err)
	}
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
}

// testMountsInPlace proves that a mount takes the place of what every container has there,
// or of an earlier one, that what is in it comes on top, and that each is listed once.
func testMountsInPlace(t *testing.T, e *Env) {
	dir, inner := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "hosts"), "of my own\n")
	write(t, filepath.Join(inner, "deep"), "deep")
	spec := e.Shell(`cat /etc/hosts; ls /twice; cat /a/b/deep; echo x > /dev/shm/made; echo x > /dev/null; ls -d /dev/pts/ptmx
		stat -c %a /dev/shm; cut -d" " -f2 /proc/mounts | sort | uniq -d; grep " /dev/shm " /proc/mounts`)
	spec.Mounts = []sandbox.Mount{
		{Dest: "/a/b", HostPath: inner},
		{Dest: "/a", HostPath: t.TempDir()},
		{Dest: "/twice", Tmpfs: &sandbox.Tmpfs{}},
		{Dest: "/etc/hosts", HostPath: filepath.Join(dir, "hosts")},
		{Dest: "/twice/", HostPath: dir},
		{Dest: "/dev/shm", Tmpfs: &sandbox.Tmpfs{Size: 128 << 20, Mode: 0o750}},
	}
	got := e.Must(t, spec)
	want := "of my own\nhosts\ndeep/dev/pts/ptmx\n750"
	if e.plain {
		if !strings.HasPrefix(got, want+"\n") { // /proc/mounts is the machine's
			t.Errorf("got %q", got)
		}
		return
	}
	if !strings.HasPrefix(got, want+"\ntmpfs /dev/shm tmpfs ") || !strings.Contains(got, "size=131072k") || strings.Count(got, "/dev/shm") != 1 {
		t.Errorf("got %q", got)
	}
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
	// A file system at /dev has the usual devices in it.
	spec = e.Shell(`ls /dev/null /dev/pts/ptmx /dev/shm -d; echo x > /dev/null; grep -c " /dev " /proc/mounts; grep " /dev " /proc/mounts`)
	spec.Mounts = []sandbox.Mount{{Dest: "/dev", Tmpfs: &sandbox.Tmpfs{Size: 1 << 20}}}
	if got := e.Must(t, spec); !strings.HasPrefix(got, "/dev/null\n/dev/pts/ptmx\n/dev/shm\n1\n") || !strings.Contains(got, "size=1024k") {
		t.Errorf("/dev: got %q", got)
	}
}

func testMountpointsVanish(t *testing.T, e *Env) {
	old := time.Unix(1e9, 5)
	for _, d := range []string{"etc", "home", "home/app", "."} {
		if err := os.Chtimes(filepath.Join(e.Lower, d), old, old); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	mounts := []sandbox.Mount{
		{Dest: "/home/app/cache/deep", HostPath: dir},
		{Dest: "/run/secrets/token", HostPath: filepath.Join(e.Lower, "etc/passwd")},
		{Dest: "/var/cache/x", HostPath: dir},
	}
	spec := e.Shell("true")
	spec.Mounts = mounts
	e.Must(t, spec)
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
	// What the process makes stays, with its parents, and times are as it left
	// them.
	spec = e.Shell("echo x > /var/cache/kept; stat -c %Y /home/app /etc")
	spec.Mounts = mounts
	if got := e.Must(t, spec); got != "1000000000\n1000000000" {
		t.Errorf("times inside: %q", got)
	}
	c := e.Changes(t)
	slices.Sort(c)
	if !slices.Equal(c, []string{"var", "var/cache", "var/cache/kept"}) {
		t.Errorf("in the upper directory: %v", c)
	}
	if got := e.Must(t, e.Shell("stat -c %Y /home/app /etc /home; ls /home/app /; ls -d /run 2>&1 | wc -l")); !strings.HasPrefix(got, "1000000000\n1000000000\n1000000000") || strings.Contains(got, "cache") {
		t.Errorf("afterwards: %q", got)
	}
}

func testMountpointThroughLink(t *testing.T, e *Env) {
	for _, l := range [][2]string{{"/run", "var/run"}, {"../run/resolve/conf", "etc/resolv.conf"}} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(e.Lower, l[1])), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(l[0], filepath.Join(e.Lower, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	spec := e.Shell("cat /var/run/secrets/s; grep -c nameserver /etc/resolv.conf; readlink /etc/resolv.conf; readlink /var/run")
	spec.Mounts = []sandbox.Mount{{Dest: "/var/run/secrets/s", HostPath: filepath.Join(e.Lower, "etc/group")}}
	if got := e.Must(t, spec); !strings.HasSuffix(got, "extra:x:2000:app\n1\n../run/resolve/conf\n/run") {
		t.Errorf("got %q", got)
	}
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
	if _, err := os.Stat("/run/secrets/s"); err == nil {
		t.Error("made on the host")
	}
}

func testEtc(t *testing.T, e *Env) {
	write(t, filepath.Join(e.Lower, "etc/hosts"), "image's own\n")
	spec := e.Shell("cat /etc/hosts; echo x >> /etc/hosts")
	spec.Hosts = []dag.HostAlias{{Host: "one", IP: "10.1.2.3"}, {Host: "two", IP: "10.1.2.3"}}
	r := e.Run(t, spec)
	want := "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tone\n10.1.2.3\ttwo\n"
	if r.Out != want {
		t.Errorf("got %q, want %q", r.Out, want)
	}
	if c := e.Changes(t); len(c) != 0 {
		t.Errorf("left in the upper directory: %v", c)
	}
}

func testShm(t *testing.T, e *Env) {
	if got := e.Must(t, e.Shell("df -k /dev/shm | tail -1 | awk '{print $2}'")); got != "65536" {
		t.Errorf("default: %s", got)
	}
	spec := e.Shell("df -k /dev/shm | tail -1 | awk '{print $2}'")
	spec.ShmSize = 128 << 20
	if got := e.Must(t, spec); got != "131072" {
		t.Errorf("got %s", got)
	}
}
