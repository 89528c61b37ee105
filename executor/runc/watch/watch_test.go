package watch

import (
	"os"
	"testing"
	"time"

	"layered.build/builder/fixtures"
)

// Who watches looks at once when the kernel tells of a lack of memory.
func TestWakeOn(t *testing.T) {
	f, kernel, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	w := &Watcher{wake: make(chan struct{}, 1)}
	w.WakeOn(f)
	if _, err := kernel.WriteString("oom_kill 2"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.wake:
	case <-time.After(fixtures.Patience):
		t.Error("what the kernel tells goes unnoticed")
	}
	f.Close()
	w.wg.Wait()
}
