// Package snapshottest is the conformance suite of layer stores: what every way of
// keeping and mounting layers must do alike.
package snapshottest

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

// InMount attaches a mount in a new mount namespace and runs fn with the folder
// where it is. The thread that fn runs on ends with it.
func InMount(t testing.TB, m snapshot.Mount, fn func(root string)) {
	t.Helper()
	target := t.TempDir()
	done := make(chan error, 1)
	go func() {
		defer close(done)      // also when fn ends the test
		runtime.LockOSThread() // never unlocked: the thread is not used again
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := m.Attach(target); err != nil {
				return err
			}
			fn(target)
			return unix.Unmount(target, 0)
		}()
	}()
	err, returned := <-done
	if err != nil {
		t.Fatal(err)
	}
	if !returned {
		t.FailNow()
	}
}

// NeedMount skips a test where nothing can be mounted.
func NeedMount(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (or a user namespace) to mount")
	}
}
