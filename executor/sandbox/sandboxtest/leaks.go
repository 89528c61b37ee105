package sandboxtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/planner/dag"
)

func testConcurrent(t *testing.T, e *Env) {
	var wg sync.WaitGroup
	lower := e.Lower
	for i := range 6 {
		spec := e.Shell(fmt.Sprintf("echo %d", i))
		spec.Root.Upper, spec.Root.Work = "", ""
		spec.Root.Lower = []string{overlayStubs(t), lower}
		if e.plain {
			spec.Root.Lower = []string{lower}
		}
		var out bytes.Buffer
		spec.Stdout = &out
		if i%2 == 0 {
			spec.Network = dag.NetDefault
		}
		wg.Go(func() {
			exit, err := e.Sandbox.Run(t.Context(), spec)
			if err != nil || exit.Code != 0 || out.String() != fmt.Sprintf("%d\n", i) {
				t.Errorf("%d: %+v %v %q", i, exit, err, out.String())
			}
		})
	}
	wg.Wait()
}

// overlayStubs is a layer with the mountpoints, for a root that is read-only.
func overlayStubs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"proc", "sys", "dev", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "etc/hosts"), "")
	write(t, filepath.Join(dir, "etc/resolv.conf"), "")
	return dir
}

func testLeaks(t *testing.T, e *Env) {
	e.Must(t, e.Shell("true"))         // what is made once
	time.Sleep(100 * time.Millisecond) // its thread ends
	before := Census(t)
	for i := range 50 {
		spec := e.Shell("true")
		switch i % 5 {
		case 0:
			spec.Network = dag.NetDefault
			spec.Args[2] = "ping -c 1 -W 1 100.127.255.253 >/dev/null; (sleep 1000 &)"
		case 1:
			spec.Limits.Pids = 100
		case 2:
			spec.Args = []string{"/missing"}
		}
		e.Run(t, spec)
	}
	await(t, func() string { // threads and namespaces end a little after their last user
		after := Census(t)
		if after.exceeds(before) {
			runtime.GC()
			return fmt.Sprintf("before %+v\nafter  %+v", before, after)
		}
		return ""
	})
}

// Counts are things that must not grow.
type Counts struct {
	Mounts, Cgroups, Processes, NetNamespaces, MountNamespaces, Goroutines, Files int
}

func (c Counts) exceeds(o Counts) bool {
	return c.Mounts > o.Mounts || c.Cgroups > o.Cgroups || c.Processes > o.Processes || c.Files > o.Files ||
		c.NetNamespaces > o.NetNamespaces || c.MountNamespaces > o.MountNamespaces || c.Goroutines > o.Goroutines
}

// Census counts what there is in this process, and what it has left on this machine.
func Census(t *testing.T) Counts {
	t.Helper()
	c := Counts{Goroutines: runtime.NumGoroutine()}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil { // others mount as well
		c.Mounts = strings.Count(string(b), filepath.Dir(t.TempDir())+"/")
	}
	own := fmt.Sprintf("/%d-", os.Getpid())
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, own) {
			c.Cgroups++
		}
		return nil
	})
	nets, mnts := map[string]bool{}, map[string]bool{}
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, p := range tasks {
		if l, err := os.Readlink(filepath.Join(p, "ns/net")); err == nil {
			nets[l] = true
		}
		if l, err := os.Readlink(filepath.Join(p, "ns/mnt")); err == nil {
			mnts[l] = true
		}
		if b, err := os.ReadFile(filepath.Join(p, "children")); err == nil {
			c.Processes += len(strings.Fields(string(b)))
		}
	}
	c.NetNamespaces, c.MountNamespaces = len(nets), len(mnts)
	fds, _ := os.ReadDir("/proc/self/fd")
	c.Files = len(fds)
	return c
}
