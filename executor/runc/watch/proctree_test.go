package watch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/fixtures"
)

// TestVforked proves that the memory of a process counts once while it has a child that
// has not executed anything yet.
func TestVforked(t *testing.T) {
	path, err := exec.LookPath("true")
	if err != nil {
		t.Skip("needs true")
	}
	program := filepath.Join(t.TempDir(), "true")
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(program, raw, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	// While somebody has a lease of the file, the child waits in execve.
	f, err := os.OpenFile(program, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	held := bytes.Repeat([]byte{1}, 64<<20)
	ended := make(chan error)
	go func() { ended <- exec.Command(program).Run() }()
	var tree []process
	for end := time.Now().Add(fixtures.Patience); len(tree) < 2 && time.Now().Before(end); {
		tree = processTree(os.Getpid(), 0)
	}
	memory, biggest := total(tree)
	if len(tree) != 2 || memory < 64<<20 || memory > 64<<20+tree[0].memory/2 || biggest != os.Getpid() {
		t.Errorf("%+v: %d bytes, most of them in %d", tree, memory, biggest)
	}
	f.Close()
	if err := <-ended; err != nil {
		t.Logf("the child: %v", err) // ETXTBSY: it looked before the file was closed
	}
	runtime.KeepAlive(held)
}
