package snapshot_test

import (
	"os"
	"os/exec"
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

func TestOverlay(t *testing.T) {
	snapshottest.Run(t, func(t testing.TB) *snapshot.Store { return openStore(t) })
}

func TestCopy(t *testing.T) {
	snapshottest.Run(t, func(t testing.TB) *snapshot.Store { return openCopyStore(t) })
}

// The program does the mounts; what overlay makes of a file with several names,
// and of the limits of one mount, is its own matter.
func TestFuse(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("fuse-overlayfs"); err != nil {
		t.Skip("needs fuse-overlayfs (make deps-test installs it)")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	f.Close()
	snapshottest.Run(t, func(t testing.TB) *snapshot.Store {
		s, err := snapshot.Open(t.TempDir(), snapshot.Options{Driver: snapshot.DriverFuse})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}
