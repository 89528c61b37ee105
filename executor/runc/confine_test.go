package runc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc/cgroup"
	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

// The AppArmor profile gets into the container's configuration.
func TestAppArmorConfigured(t *testing.T) {
	sys := t.TempDir()
	for name, text := range map[string]string{
		"module/apparmor/parameters/enabled": "Y\n", "kernel/security/apparmor/profiles": "docker-default (enforce)\n",
	} {
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := &Sandbox{policy: confine.NewPolicy(sys), cgroups: &cgroup.Set{}}
	for _, test := range []struct {
		c    *dag.Confinement
		want string
	}{
		{nil, "docker-default"},
		{&dag.Confinement{NoNewPrivileges: true}, "docker-default"},
		{&dag.Confinement{AppArmor: "unconfined"}, ""},
		{&dag.Confinement{AppArmor: "mine"}, "mine"},
	} {
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
	if err := confine.CheckSeccomp([]byte("{")); err == nil {
		t.Error("a broken profile is taken")
	}
}
