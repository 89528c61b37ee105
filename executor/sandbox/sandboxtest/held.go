package sandboxtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/executor/sandbox"
)

// patience is how long the suite waits for what has to happen. It is so long that
// only a fault exceeds it, however busy the machine is.
const patience = 3 * time.Minute

// await calls check again and again until it has nothing to complain about.
func await(t *testing.T, check func() (complaint string)) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		complaint := check()
		if complaint == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(complaint)
		}
	}
}

// held is a container whose script waits, so that it can be looked at from outside.
type held struct {
	id     string
	result Result
	let    func()
	done   sync.WaitGroup
}

// hold runs the script before; once that has ended it waits until it is let go, and
// then runs the script after.
func (e *Env) hold(t *testing.T, spec *sandbox.Spec, before, after string) *held {
	t.Helper()
	r, w := io.Pipe()
	var errs bytes.Buffer
	begun := &prompt{want: "held\n"}
	ready := make(chan struct{})
	begun.then = func() { close(ready) }
	spec.Args = []string{"/bin/sh", "-c", before + "\necho held; read x\n" + after}
	spec.Stdin, spec.Stdout, spec.Stderr = r, begun, &errs
	h := &held{id: spec.ID, let: func() { w.Close() }}
	ended := make(chan struct{})
	ctx := context.WithoutCancel(t.Context()) // it is let go at the end of the test
	h.done.Go(func() {
		defer close(ended)
		exit, err := e.Sandbox.Run(ctx, spec)
		if err != nil {
			t.Errorf("run %q: %v", spec.Args, err)
		}
		h.result = Result{exit, strings.TrimPrefix(begun.String(), "held\n"), errs.String()}
	})
	t.Cleanup(func() { h.end() })
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("ended early: %+v", h.result)
	}
	return h
}

// end lets the script go on, and returns what came of it.
func (h *held) end() Result {
	h.let()
	h.done.Wait()
	return h.result
}

// cgroup returns the contents of a file of the container's cgroup, "" if there is
// none.
func (h *held) cgroup(name string) string {
	own, id := strconv.Itoa(os.Getpid())+"-", "-"+h.id
	content := ""
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(strings.TrimPrefix(d.Name(), "builder-"), own) && strings.HasSuffix(d.Name(), id) {
			if b, err := os.ReadFile(filepath.Join(path, name)); err == nil {
				content = strings.TrimSpace(string(b))
			}
		}
		return nil
	})
	return content
}

// quota is how many processors the container's cgroup grants, 0 if that is not
// limited.
func (h *held) quota(t *testing.T) float64 {
	t.Helper()
	text := h.cgroup("cpu.cfs_quota_us") + " " + h.cgroup("cpu.cfs_period_us")
	if unified := h.cgroup("cpu.max"); unified != "" {
		text = unified
	}
	var quota, period float64
	if _, err := fmt.Sscan(text, &quota, &period); err != nil {
		t.Fatalf("the cgroup's quota is %q", text)
	}
	return quota / period
}

// used is the CPU time of the container's processes that run, and when it was that.
func (h *held) used(t *testing.T) time.Duration {
	t.Helper()
	var sum time.Duration
	procs := strings.Fields(h.cgroup("cgroup.procs"))
	for _, pid := range procs {
		b, err := os.ReadFile("/proc/" + pid + "/schedstat")
		if err != nil {
			t.Fatal(err)
		}
		var ns int64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			t.Fatalf("schedstat %q: %v", b, err)
		}
		sum += time.Duration(ns)
	}
	if len(procs) == 0 {
		t.Fatalf("no process is in the cgroup of %s", h.id)
	}
	return sum
}

// Growing is a script of one process, named awk, that grows: to some bytes at once,
// and then slowly, by 10 MB at a time, until it has the most. So a limit that is kept
// by looking is not exceeded by far, also when the machine is busy.
func Growing(first, most int) string {
	const step = 10_000_000
	return fmt.Sprintf(`awk 'BEGIN { for (i = 0; i < %d; i++) { if (i >= %d) system("sleep 0.3"); a[i] = sprintf("%%%dd", 0) } }'`,
		most/step, first/step, step)
}
