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

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot"
)

const victimEnv = "BUILDER_TEST_VICTIM"

// victimSleep is how many seconds the processes of a test's victim sleep, which tells
// them from all others.
func victimSleep(test int) string { return fmt.Sprintf("4243%09d", test) }

// victim is a builder that is killed: it runs a step and never comes back.
func victim() {
	mark := victimSleep(os.Getppid())
	s, err := New(Options{StateDir: os.Getenv(victimEnv)})
	if err == nil {
		_, err = s.Run(context.Background(), &sandbox.Spec{
			ID: "victim", Args: []string{"/bin/sh", "-c", "(setsid sleep " + mark + " &); sleep " + mark + " & echo ready; wait"},
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
	fixtures.Await(t, func() string {
		if there := sleepers(t); there != n {
			return fmt.Sprintf("%d processes of the step, want %d", there, n)
		}
		return ""
	})
}

// sleepers counts the processes of the victim's step.
func sleepers(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "sleep\x00"+victimSleep(os.Getpid())) && !strings.Contains(string(b), "echo") {
			n++
		}
	}
	return n
}
