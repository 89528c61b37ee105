package runc

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

const (
	victimEnv       = "BUILDER_TEST_VICTIM"
	victimParentEnv = "BUILDER_TEST_VICTIM_PARENT"
)

// victimSleep is how many seconds the processes of a test's victim sleep, which tells
// them from all others.
func victimSleep(test int) string { return fmt.Sprintf("4242%09d", test) }

// victim is a builder that is killed: it runs a container and never comes back.
func victim() {
	dir, mark := os.Getenv(victimEnv), victimSleep(os.Getppid())
	s, err := New(Options{StateDir: filepath.Join(dir, "state")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	spec := &sandbox.Spec{
		ID: "victim", Args: []string{"/bin/sh", "-c", "(setsid sleep " + mark + " &); echo ready; sleep " + mark},
		Root: snapshot.Mount{
			Lower: []string{os.Getenv("BUILDER_TEST_LOWER")},
			Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		},
		Stdout: os.Stdout,
	}
	if !rootless.InUserNamespace() { // where there may be no cgroups for it
		spec.Limits = dag.Limits{Pids: 50, Memory: 128 << 20, Parent: os.Getenv(victimParentEnv)}
	}
	_, err = s.Run(context.Background(), spec)
	fmt.Println(err)
	os.Exit(1)
}

// A builder that is killed leaves no process, mount or namespace, and cgroups
// only until the next one looks.
func TestKilledBuilder(t *testing.T) {
	fixtures.NeedRoot(t)
	t.Run("own cgroup", func(t *testing.T) { testKilled(t, "") })
	t.Run("another parent", func(t *testing.T) {
		name := fmt.Sprintf("builder-test-kill-%d", os.Getpid())
		dirs := []string{cgroupRoot}
		if !cgroups.IsCgroup2UnifiedMode() {
			dirs = []string{filepath.Join(cgroupRoot, "pids"), filepath.Join(cgroupRoot, "memory")}
		}
		for _, dir := range dirs {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Skipf("needs to make cgroups: %v", err)
			}
		}
		t.Cleanup(func() { removeParents(t, name) })
		testKilled(t, name)
	})
}

func testKilled(t *testing.T, parent string) {
	lower := sandboxtest.Rootfs(t)
	dir := t.TempDir()
	for _, d := range []string{"state", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+dir, victimParentEnv+"="+parent, "BUILDER_TEST_LOWER="+lower)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("victim says %q (%v)", line, err)
	}
	if traces(t, pid, dir) == "" {
		t.Fatal("no traces while it runs: the test cannot see any")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	s := newSandbox(t)
	fixtures.Await(t, func() string {
		err := s.Reclaim(t.Context())
		left := traces(t, pid, dir)
		if err != nil || left != "" {
			return fmt.Sprintf("left behind (%v):\n%s", err, left)
		}
		return ""
	})
}

// traces lists the processes, mounts and cgroups of a builder.
func traces(t *testing.T, pid int, dir string) string {
	t.Helper()
	var out []string
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range cmdlines {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "sleep\x00"+victimSleep(os.Getpid())) {
			out = append(out, f)
		}
		mounts, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "mountinfo"))
		if strings.Contains(string(mounts), dir) {
			out = append(out, filepath.Dir(f)+"/mountinfo")
		}
	}
	return strings.Join(append(out, fixtures.Cgroups(t, pid)...), "\n")
}
