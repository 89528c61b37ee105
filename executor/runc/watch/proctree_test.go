package watch

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
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
	// Whoever executes the file waits until this test allows it (fanotify(7)).
	watch, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_CLOEXEC)
	if err == nil {
		err = unix.FanotifyMark(watch, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, program)
	}
	if err != nil {
		t.Skipf("needs fanotify: %v", err)
	}
	held := bytes.Repeat([]byte{1}, 64<<20)
	// The thread that waits for the child cannot be stopped for a collection.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	ended := make(chan error)
	go func() { ended <- exec.Command(program).Run() }()
	event := make([]byte, 256)
	n, err := unix.Read(watch, event)
	if err != nil || n < int(unsafe.Sizeof(unix.FanotifyEventMetadata{})) {
		t.Fatalf("read an event: %d bytes, %v", n, err)
	}
	meta := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&event[0]))
	tree := processTree(os.Getpid(), 0)
	memory, biggest := total(tree)
	if len(tree) != 2 || memory < 64<<20 || memory != tree[0].memory || biggest != os.Getpid() {
		t.Errorf("%+v: %d bytes, most of them in %d", tree, memory, biggest)
	}
	answer := unix.FanotifyResponse{Fd: meta.Fd, Response: unix.FAN_ALLOW}
	if _, err := unix.Write(watch, unsafe.Slice((*byte)(unsafe.Pointer(&answer)), unsafe.Sizeof(answer))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Close(int(meta.Fd)), unix.Close(watch)); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the child: %v", err)
	}
	runtime.KeepAlive(held)
}
