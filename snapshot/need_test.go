package snapshot_test

import (
	"os"
	"testing"
)

// needRoot skips the test unless it runs as root, which a store does also for an
// unprivileged user: in a user namespace, where it owns the files of layers.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give the files of layers to 0:0")
	}
}
