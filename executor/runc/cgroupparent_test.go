package runc

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"layered.build/builder/executor/sandbox/sandboxtest"
)

const cgroupRoot = "/sys/fs/cgroup"

// TestCgroupParent: the processes of a container are below the cgroup that was
// asked for, whose limits count; nothing is left in it, also of a process that was
// killed.
func TestCgroupParent(t *testing.T) {
	env := sandboxtest.NewEnv(t, newSandbox(t))
	hierarchy, limit := filepath.Join(cgroupRoot, "pids"), "pids.max"
	if cgroups.IsCgroup2UnifiedMode() {
		hierarchy = cgroupRoot
	}
	name := fmt.Sprintf("builder-test-%d", os.Getpid())
	parent := filepath.Join(hierarchy, name, "deeper")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Skipf("needs to make cgroups: %v", err)
	}
	t.Cleanup(func() { removeParents(t, name) })
	limited := os.WriteFile(filepath.Join(hierarchy, name, limit), []byte("12"), 0o644) == nil
	dead := filepath.Join(parent, "builder-1-2-killed") // process 1 began at another time
	if err := os.Mkdir(dead, 0o755); err != nil {
		t.Fatal(err)
	}

	r, w := io.Pipe()
	spec := env.Shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 100 & done; echo all; read x")
	spec.Limits.Parent = name + "/deeper"
	started := startedWriter{make(chan struct{})}
	spec.Stdin, spec.Stdout = r, started
	ended := make(chan error, 1)
	go func() {
		_, err := env.Sandbox.Run(t.Context(), spec)
		if err == nil {
			err = io.EOF
		}
		ended <- err
	}()
	var err error
	if limited { // the shell gives up when it cannot fork
		err = <-ended
	} else {
		select {
		case <-started.c:
			if pids, _ := cgroups.GetAllPids(parent); len(pids) == 0 {
				t.Error("no process is below the parent")
			}
			w.Close()
			err = <-ended
		case err = <-ended:
			t.Errorf("ended early: %v", err)
		}
	}
	if err != io.EOF {
		t.Error(err)
	}
	select {
	case <-started.c:
		if limited {
			t.Error("the parent's limit does not count")
		}
	default:
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// startedWriter tells when something is written.
type startedWriter struct{ c chan struct{} }

func (w startedWriter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "all") {
		close(w.c)
	}
	return len(b), nil
}

func removeParents(t *testing.T, name string) {
	dirs, err := filepath.Glob(filepath.Join(cgroupRoot, "*", name))
	if err != nil {
		t.Error(err)
	}
	for _, dir := range append(dirs, filepath.Join(cgroupRoot, name)) {
		if err := cgroups.RemovePath(dir); err != nil {
			t.Error(err)
		}
	}
}
