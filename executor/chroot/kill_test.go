package chroot

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/snapshot"
)

const victimEnv = "BUILDER_TEST_VICTIM"

// victim is a builder that is killed: it runs a step and never comes back.
func victim() {
	s, err := New(Options{StateDir: os.Getenv(victimEnv)})
	if err == nil {
		_, err = s.Run(context.Background(), &sandbox.Spec{
			ID: "victim", Args: []string{"/bin/sh", "-c", "(setsid sleep 4243 &); sleep 4243 & echo ready; wait"},
			Root: snapshot.Mount{Upper: os.Getenv("BUILDER_TEST_ROOT")}, Stdout: os.Stdout,
		})
	}
	fmt.Println(err)
	os.Exit(1)
}

// A builder that is killed leaves no process, and files only until the next one
// looks.
func TestKilledBuilder(t *testing.T) {
	root, state := sandboxtest.Rootfs(t), t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+state, "BUILDER_TEST_ROOT="+root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("victim says %q (%v)", line, err)
	}
	waitForSleepers(t, 2)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitForSleepers(t, 0)
	s, err := New(Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// waitForSleepers waits until n processes of the victim's step are there.
func waitForSleepers(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); sleepers(t) != n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes of the step, want %d", sleepers(t), n)
		}
	}
}

// sleepers counts the processes of the victim's step.
func sleepers(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "sleep\x004243") && !strings.Contains(string(b), "echo") {
			n++
		}
	}
	return n
}
