package runc

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
)

// Processes in a user namespace of their own do all that others do.
func TestOwnUserNamespaces(t *testing.T) {
	if os.Geteuid() != 0 || rootless.InUserNamespace() {
		t.Skip("needs root outside of user namespaces")
	}
	needMappedIDs(t)
	sandboxtest.Run(t, func(t *testing.T) sandbox.Sandbox { return ownUserNamespaces(t) })
}

// A working directory that a mount lacks is made in it for the user, whose id is
// another one there.
func TestCwdInMount(t *testing.T) {
	if os.Geteuid() != 0 || rootless.InUserNamespace() {
		t.Skip("needs root outside of user namespaces")
	}
	needMappedIDs(t)
	for _, s := range []*Sandbox{newSandbox(t), ownUserNamespaces(t)} {
		e := sandboxtest.NewEnv(t, s)
		cache := t.TempDir()
		spec := e.Shell("pwd; stat -c %u:%g .")
		spec.Mounts = []sandbox.Mount{{Dest: "/cache", HostPath: cache}}
		spec.Cwd, spec.User = "/cache/deep/er", sandbox.User{UID: 1000, GID: 1001}
		if got := e.Must(t, spec); got != "/cache/deep/er\n1000:1001" {
			t.Errorf("got %q", got)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(cache, "deep"), &st); err != nil || st.Uid != 1000 || st.Gid != 1001 {
			t.Errorf("on disk it belongs to %d:%d, %v", st.Uid, st.Gid, err)
		}
	}
}

func ownUserNamespaces(t *testing.T) *Sandbox {
	t.Helper()
	s, err := New(Options{StateDir: t.TempDir(), UserNamespaces: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// needMappedIDs skips the test where processes get no user namespaces of their own.
func needMappedIDs(t *testing.T) {
	t.Helper()
	e := sandboxtest.NewEnv(t, ownUserNamespaces(t))
	if got := e.Must(t, e.Shell("tr -s ' ' </proc/self/uid_map")); got != "0 1879048192 65536" {
		t.Skipf("needs file systems whose ids can be mapped: %q", got)
	}
}
