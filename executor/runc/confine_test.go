package runc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc/cgroup"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

func TestHiddenPaths(t *testing.T) {
	s := &Sandbox{masked: []string{"/proc/kcore", "/proc/keys", "/sys/firmware"}}
	for _, test := range []struct {
		c                *dag.Confinement
		masked, readonly string
	}{
		{nil, "/proc/kcore /proc/keys /sys/firmware", strings.Join(readonlyPaths(), " ")},
		{&dag.Confinement{Unmask: []string{"ALL"}}, "", ""},
		{&dag.Confinement{Unmask: []string{"/proc/k*"}}, "/sys/firmware", strings.Join(readonlyPaths(), " ")},
		{&dag.Confinement{Unmask: []string{"/proc"}, Mask: []string{"/etc/x"}}, "/sys/firmware /etc/x", ""},
	} {
		masked, readonly := s.hidden(test.c)
		if strings.Join(masked, " ") != test.masked || strings.Join(readonly, " ") != test.readonly {
			t.Errorf("%+v: %v, %v", test.c, masked, readonly)
		}
	}
	if len(s.masked) != 3 || s.masked[0] != "/proc/kcore" {
		t.Errorf("the default was changed: %v", s.masked)
	}
}

func TestAppArmorProfile(t *testing.T) {
	sys := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if enabled, _ := AppArmor(sys); enabled || defaultAppArmor(sys) != "" {
		t.Error("AppArmor where there is none")
	}
	write("module/apparmor/parameters/enabled", "N\n")
	if enabled, _ := AppArmor(sys); enabled {
		t.Error("AppArmor where it is disabled")
	}
	write("module/apparmor/parameters/enabled", "Y\n")
	if enabled, _ := AppArmor(sys); !enabled || defaultAppArmor(sys) != "" {
		t.Error("a profile that is not loaded")
	}
	write("kernel/security/apparmor/profiles", "/usr/bin/man (enforce)\ndocker-default (enforce)\nmine (complain)\n")
	if _, loaded := AppArmor(sys, "mine", "other"); !slices.Equal(loaded, []string{"mine"}) {
		t.Errorf("loaded: %v", loaded)
	}
	s := &Sandbox{defaultAppArmor: defaultAppArmor(sys)}
	for _, test := range []struct {
		c    *dag.Confinement
		want string
	}{
		{nil, "docker-default"},
		{&dag.Confinement{NoNewPrivileges: true}, "docker-default"},
		{&dag.Confinement{AppArmor: "unconfined"}, ""},
		{&dag.Confinement{AppArmor: "mine"}, "mine"},
	} {
		if got := s.apparmor(test.c); got != test.want {
			t.Errorf("%+v: %q", test.c, got)
		}
		s.cgroups = &cgroup.Set{}
		cfg, err := s.newConfig(&sandbox.Spec{Args: []string{"x"}, Confine: test.c}, "/")
		if err != nil || cfg.AppArmorProfile != test.want {
			t.Errorf("%+v: configured %q, %v", test.c, cfg.AppArmorProfile, err)
		}
	}
}

func TestConfine(t *testing.T) {
	e := sandboxtest.NewEnv(t, newSandbox(t))
	spec := e.Shell("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; unshare -u true && echo unshared; hostname x || true")
	spec.Confine = &dag.Confinement{Seccomp: dag.SeccompUnconfined, NoNewPrivileges: true}
	if got := e.Must(t, spec); !strings.Contains(got, "NoNewPrivs:\t1") || !strings.Contains(got, "Seccomp:\t0") {
		t.Errorf("unconfined: %q", got)
	}
	spec = e.Shell("chmod 600 /tmp || echo refused; grep Seccomp: /proc/self/status")
	spec.SeccompProfile = []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]}`)
	spec.Confine = &dag.Confinement{Seccomp: "sha256:x"}
	if got := e.Must(t, spec); got != "refused\nSeccomp:\t2" {
		t.Errorf("a profile: %q", got)
	}
	spec = e.Shell("cat /etc/passwd | wc -c; ls /home | wc -l; head -c 1 /proc/keys | wc -c; touch /proc/sys/kernel/domainname && echo writable")
	spec.Confine = &dag.Confinement{Mask: []string{"/etc/passwd", "/home"}, Unmask: []string{"ALL"}}
	want := "0\n0\n1\nwritable"
	if rootless.InUserNamespace() { // whose root may not change the machine's settings
		spec.Args[2], want = strings.TrimSuffix(spec.Args[2], "; touch /proc/sys/kernel/domainname && echo writable"), "0\n0\n1"
	}
	if got := e.Must(t, spec); got != want {
		t.Errorf("masks: %q", got)
	}
	if err := CheckSeccomp([]byte("{")); err == nil {
		t.Error("a broken profile is taken")
	}
}
