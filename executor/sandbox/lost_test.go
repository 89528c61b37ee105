package sandbox

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A process that has something mounted from an abandoned folder is ended, another one
// is not.
func TestKillUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	dir := filepath.Join(t.TempDir(), "active")
	start := func(name string) *exec.Cmd {
		folder := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(folder, "upper"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", `mount --bind "$1/upper" "$1/upper" && echo ready && exec sleep 1000`, "sh", folder)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Skipf("cannot mount: %v", err)
		}
		return cmd
	}
	lost, other := start("p1-1"), start("p1-10")
	if err := KillUsers([]string{filepath.Join(dir, "p1-1")}); err != nil {
		t.Fatal(err)
	}
	if err := lost.Wait(); err == nil || lost.ProcessState.ExitCode() != -1 {
		t.Errorf("the lost process ended with %v", err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("another process: %v", err)
	}
}
