package engine

import (
	"os"
	"strings"
	"testing"

	"layered.build/builder/executor/rootless"
)

func TestDefaultRoot(t *testing.T) {
	home := t.TempDir()
	user := rootless.HostUID() != 0
	for name, tc := range map[string]struct {
		home string
		env  map[string]string
		want string // of an ordinary user
	}{
		"a home":       {home: home, want: home + "/.local/share/builder"},
		"a data home":  {home: home, env: map[string]string{"XDG_DATA_HOME": "/data"}, want: "/data/builder"},
		"no home":      {home: "/dev/null", want: "HOME=/dev/null is no folder"},
		"no data home": {home: home, env: map[string]string{"XDG_DATA_HOME": "/dev/null"}, want: "XDG_DATA_HOME=/dev/null is no folder"},
		"a store":      {home: "/dev/null", env: map[string]string{"BUILDER_ROOT": "/store"}, want: "/store"},
		"no variable":  {want: "there is no place for the store"},
	} {
		t.Setenv("HOME", tc.home)
		if tc.home == "" {
			os.Unsetenv("HOME")
		}
		got, err := DefaultRoot(func(name string) string { return tc.env[name] })
		if err != nil {
			got = err.Error()
		}
		if want := tc.want; (user || want == "/store") && !strings.Contains(got, want) || !user && want != "/store" && got != "/var/lib/builder" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
