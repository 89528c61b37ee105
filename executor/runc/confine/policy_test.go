package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
)

func TestHiddenPaths(t *testing.T) {
	s := &Policy{masked: []string{"/proc/kcore", "/proc/keys", "/sys/firmware"}}
	for _, test := range []struct {
		c                *dag.Confinement
		masked, readonly string
	}{
		{nil, "/proc/kcore /proc/keys /sys/firmware", strings.Join(readonlyPaths(), " ")},
		{&dag.Confinement{Unmask: []string{"ALL"}}, "", ""},
		{&dag.Confinement{Unmask: []string{"/proc/k*"}}, "/sys/firmware", strings.Join(readonlyPaths(), " ")},
		{&dag.Confinement{Unmask: []string{"/proc"}, Mask: []string{"/etc/x"}}, "/sys/firmware /etc/x", ""},
	} {
		masked, readonly := s.Hidden(test.c)
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
	s := NewPolicy(sys)
	for _, test := range []struct {
		c    *dag.Confinement
		want string
	}{
		{nil, "docker-default"},
		{&dag.Confinement{NoNewPrivileges: true}, "docker-default"},
		{&dag.Confinement{AppArmor: "unconfined"}, ""},
		{&dag.Confinement{AppArmor: "mine"}, "mine"},
	} {
		if got := s.AppArmor(test.c); got != test.want {
			t.Errorf("%+v: %q", test.c, got)
		}
	}
}
