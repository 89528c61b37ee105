package thread

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Goroutines also run on the main thread, whose namespaces are what /proc/self
// shows. It must never be the one that is given away.
func TestMainThreadKeepsNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				err := Run(AllButNetwork, func() error {
					if unix.Gettid() == unix.Getpid() {
						t.Error("on the main thread")
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if after, err := os.Readlink("/proc/self/ns/mnt"); err != nil || after != before {
		t.Errorf("mount namespace was %s, is %s (%v)", before, after, err)
	}
}
