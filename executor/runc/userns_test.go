package runc

import (
	"os"
	"testing"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
)

// Processes in a user namespace of their own do all that others do.
func TestOwnUserNamespaces(t *testing.T) {
	if os.Geteuid() != 0 || rootless.InUserNamespace() {
		t.Skip("needs root outside of user namespaces")
	}
	open := func(t *testing.T) sandbox.Sandbox {
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
	e := sandboxtest.NewEnv(t, open(t))
	if got := e.Must(t, e.Shell("tr -s ' ' </proc/self/uid_map")); got != "0 1879048192 65536" {
		t.Skipf("needs file systems whose ids can be mapped: %q", got)
	}
	sandboxtest.Run(t, open)
}
