package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// Found tells where libcontainer has made the container's cgroup (v2).
func (g *Group) Found(dir string) {
	if g.set.Delegates() {
		g.unified = dir
	}
}

// memoryDir is the cgroup that limits the container's memory, "" if none does.
func (g *Group) memoryDir() string {
	if g.unified != "" {
		return g.unified
	}
	return g.paths["memory"]
}

// MayLackMemory reports whether the kernel may kill a process of the container for
// its limits or for those of all containers together.
func (g *Group) MayLackMemory(l dag.Limits) bool {
	return g.memoryDir() != "" && (l.Memory != 0 || g.set.total != nil)
}

// OOMEvents returns a file that can be read when the kernel is about to kill a process
// of the container for a lack of memory. The caller closes it.
func (g *Group) OOMEvents() (*os.File, error) { return oomEvents(g.memoryDir(), g.set.unified) }

// oomEvents returns a file that can be read when the kernel is about to kill a
// process of a cgroup for memory: an eventfd on v1, else inotify on memory.events.
func oomEvents(dir string, unified bool) (*os.File, error) {
	if unified {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, fmt.Errorf("watch for lack of memory: %w", err)
		}
		f := os.NewFile(uintptr(fd), "memory.events")
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, "memory.events"), unix.IN_MODIFY); err != nil {
			return nil, errors.Join(fmt.Errorf("watch for lack of memory: %w", err), f.Close())
		}
		return f, nil
	}
	control, err := cgroups.OpenFile(dir, "memory.oom_control", os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("watch for lack of memory: %w", err)
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch for lack of memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memory.oom_control")
	if err := cgroups.WriteFile(dir, "cgroup.event_control", fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("watch for lack of memory: %w", err), f.Close())
	}
	return f, nil
}

// killed is what the kernel says of a process that it killed for memory.
type killed struct {
	pid    int
	name   string
	cgroup string // whose limit it was
}

// allKilled looks in the kernel's log for the processes that it killed in a cgroup of the
// given name.
func allKilled(log *os.File, cgroup string) (out []killed) {
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Read(int(log.Fd()), buf) // one record
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // records were overwritten meanwhile
		}
		if err != nil || n <= 0 {
			return out
		}
		if k, is := parseKilled(string(buf[:n]), cgroup); is {
			out = append(out, k)
		}
	}
}

// parseKilled reads a record such as "…;oom-kill:constraint=CONSTRAINT_MEMCG,
// nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=name,pid=7,uid=0".
func parseKilled(record, cgroup string) (killed, bool) {
	_, text, ok := strings.Cut(record, "oom-kill:")
	if !ok {
		return killed{}, false
	}
	text, _, _ = strings.Cut(text, "\n")
	// The name comes last but for two numbers, and may hold anything.
	head, tail, ok := strings.Cut(text, ",task=")
	if !ok {
		return killed{}, false
	}
	var limited, in string
	for _, f := range strings.Split(head, ",") {
		if v, ok := strings.CutPrefix(f, "oom_memcg="); ok {
			limited = v
		}
		if v, ok := strings.CutPrefix(f, "task_memcg="); ok {
			in = v
		}
	}
	i := strings.LastIndex(tail, ",pid=")
	if i < 0 || !strings.Contains(in+"/", "/"+cgroup+"/") {
		return killed{}, false
	}
	number, _, _ := strings.Cut(tail[i+len(",pid="):], ",")
	pid, err := strconv.Atoi(number)
	return killed{pid: pid, name: tail[:i], cgroup: filepath.Base(limited)}, err == nil
}

// Victims says whom the kernel killed in the container's cgroup for a lack of memory, as
// far as that can be known: it tells only those who may read its log. limit and total
// are the limits of the container and of all together, in bytes; inner returns the
// number in the container of a process that is gone, if it is known.
func (g *Group) Victims(limit, total int64, inner func(pid int) (int, bool)) (out []sandbox.Victim) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		log := os.NewFile(uintptr(fd), "/dev/kmsg")
		defer log.Close()
		for _, k := range allKilled(log, g.name) {
			v := sandbox.Victim{Name: k.name, Limit: limit}
			if k.cgroup != g.name {
				v.Limit = total
			}
			v.PID, _ = inner(k.pid)
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		out = append(out, sandbox.Victim{Limit: cmp.Or(limit, total)})
	}
	return out
}
