package runc

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
)

// A real distribution fetches its package lists through the default network.
func TestDebian(t *testing.T) {
	archive := os.Getenv("BUILDER_TEST_DEBIAN")
	if archive == "" {
		t.Skip("BUILDER_TEST_DEBIAN does not name a tar archive of a Debian root file system")
	}
	e := sandboxtest.NewEnv(t, newSandbox(t))
	e.Lower = t.TempDir()
	if out, err := exec.Command("tar", "-C", e.Lower, "-xpf", archive, "--exclude=./dev/*").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	spec := e.Shell("set -e; apt-get update; apt-get install -y --no-install-recommends netbase; getent services http; ip -V 2>/dev/null || true; id; su -s /bin/sh nobody -c id")
	spec.Network = dag.NetDefault
	spec.Env = append(spec.Env, "DEBIAN_FRONTEND=noninteractive")
	got := e.Must(t, spec)
	for _, want := range []string{"Reading package lists", "80/tcp", "uid=0(root)", "uid=65534(nobody)"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, c := range e.Changes(t) {
		if c == "etc/hosts" || c == "etc/resolv.conf" || strings.HasPrefix(c, "proc") || strings.HasPrefix(c, "sys") || strings.HasPrefix(c, "dev") {
			t.Errorf("left in the upper directory: %s", c)
		}
	}
}
