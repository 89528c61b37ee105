package watch

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const (
	// firstLook is when a container is looked at first: most are gone by then.
	firstLook = 10 * time.Millisecond
	// lookEvery is the longest pause between two looks.
	lookEvery = 100 * time.Millisecond
	// closeLook is the pause while a limit is near that only the watcher keeps.
	closeLook = 2 * time.Millisecond
	// looking takes at most one part in so many of a processor; where a limit
	// depends on it, in so few.
	rarely, often = 50, 5
)

// Watcher looks at a container's processes from time to time: it counts them, keeps
// the limits for which there is no cgroup, and remembers who is who, for the case
// that the kernel kills one.
type Watcher struct {
	root   int
	limits dag.Limits // memory and pids that it keeps itself
	// preparing is the executable of root while it is not the user's process yet:
	// its threads do not count. "" from then on.
	preparing string
	names     bool // remember who is who
	wake      chan struct{}
	stop      chan struct{}
	wg        sync.WaitGroup

	// To be read after Finish.
	processes int
	memory    int64 // the most that was seen
	// Victims are the processes that were killed for the limit of memory, the first one
	// first.
	Victims []sandbox.Victim
	// PidsHit: the container was killed for the limit of processes.
	PidsHit bool
	known   map[int]named
	killed  int // last
}

// named is who a process is.
type named struct {
	pid  int // in the container
	name string
}

// Start begins to look at the container whose first process is root, for memory and
// pids of the limits. preparing is the executable of that process while it is not the
// user's yet, "" if it is or nobody counts. names: who is who is remembered. The caller
// calls Finish.
func Start(root int, preparing string, limits dag.Limits, names bool) *Watcher {
	w := &Watcher{
		root: root, preparing: preparing, limits: limits, names: names || limits.Memory > 0, processes: 1,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), known: map[int]named{},
	}
	w.wg.Go(w.loop)
	return w
}

// Finish ends the looking.
func (w *Watcher) Finish() {
	close(w.stop)
	w.wg.Wait()
}

func (w *Watcher) loop() {
	pause, longest, share := firstLook, lookEvery, time.Duration(rarely)
	if w.limits.Memory > 0 || w.limits.Pids > 0 {
		pause, longest, share = closeLook, 4*closeLook, often
	}
	if w.limits.Pids > 0 { // processes multiply faster than memory fills
		longest = closeLook
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		woken := false
		select {
		case <-w.stop:
			return
		case <-w.wake:
			woken = true
		case <-t.C:
		}
		begin := time.Now()
		near := w.look(woken)
		pause = min(2*pause, longest)
		if near {
			pause = closeLook
		}
		t.Reset(max(pause, share*time.Since(begin)))
	}
}

// look takes stock once. It reports whether a limit that it keeps is near.
func (w *Watcher) look(woken bool) (near bool) {
	if w.preparing != "" && Executable(w.root) == w.preparing {
		return true
	}
	w.preparing = ""
	var threads int
	tree := processTree(w.root, w.limits.Pids)
	memory, biggest := total(tree)
	if limit := w.limits.Memory; limit > 0 && memory > limit {
		if shares, ok := share(tree); ok {
			for i, n := range shares {
				tree[i].memory = n
			}
			memory, biggest = total(tree)
		}
	}
	for _, p := range tree {
		threads += p.threads
		if _, ok := w.known[p.pid]; w.names && (woken || !ok) {
			if pid, name := inner(p.pid); pid != 0 {
				w.known[p.pid] = named{pid, name}
			}
		}
	}
	w.processes, w.memory = max(w.processes, len(tree)), max(w.memory, memory)
	if limit := w.limits.Memory; limit > 0 {
		near = memory > limit/4
		if memory > limit {
			w.killLargest(biggest)
		}
	}
	if limit := w.limits.Pids; limit > 0 {
		near = near || int64(threads) > limit/2
		if int64(threads) > limit {
			w.PidsHit = true
			_ = unix.Kill(w.root, unix.SIGKILL) // and all others with it
		}
	}
	return near
}

// total is how much memory processes have, and which of them has most.
func total(tree []process) (memory int64, biggest int) {
	var largest int64
	for _, p := range tree {
		memory += p.memory
		if p.memory >= largest {
			largest, biggest = p.memory, p.pid
		}
	}
	return memory, biggest
}

// killLargest does what the kernel does when a cgroup's memory is used up.
func (w *Watcher) killLargest(pid int) {
	if pid != w.killed { // one that is dying is still seen for a while
		n, name := inner(pid)
		w.Victims = append(w.Victims, sandbox.Victim{Name: name, PID: n, Limit: w.limits.Memory})
		w.killed = pid
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

// WakeOn has the watcher look at once when there is something to read. It ends when
// the file is closed.
func (w *Watcher) WakeOn(events *os.File) {
	w.wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			if _, err := events.Read(buf); err != nil {
				return
			}
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	})
}

// Inner returns the number in the container of a process that was seen.
func (w *Watcher) Inner(pid int) (int, bool) {
	who, ok := w.known[pid]
	return who.pid, ok
}
