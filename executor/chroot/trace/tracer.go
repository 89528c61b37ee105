// Package trace has the system calls of a step answered: it traces all threads of a step
// (ptrace(2)), and at each call that a seccomp filter stops it asks a handler, which
// does the call's work, changes its arguments or lets it go on.
//
// Nothing of the step outlives the tracer, nor its first process.
package trace

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/fakeid"
)

// traceOptions make the tracer see what threads start and execute, and let nothing
// outlive it.
const traceOptions = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL

// Tracer traces the processes of a step, and has the system calls answered at which
// they stop. All of it belongs to one operating system thread.
type Tracer struct {
	calls  map[int]Handler
	onExec func(pid int)
	tasks  map[int]*Task
	// early are threads that stopped before their parent said that it started them.
	early   map[int]bool
	first   int // the process that the step is
	code    int // how it ended
	ended   bool
	refused int64 // threads and processes that the limit of tasks forbade
}

// Options say what is traced.
type Options struct {
	// Calls answer the system calls that the filter stops, by their numbers.
	Calls map[int]Handler
	// Tasks is how many threads and processes there may be; 0 is no limit.
	Tasks int
	// OnExec, which may be nil, is called with a process when the step's program begins
	// in it, before it runs.
	OnExec func(pid int)
}

// New returns a tracer that traces nothing yet.
func New(o Options) *Tracer {
	t := &Tracer{calls: maps.Clone(o.Calls), onExec: o.OnExec, tasks: map[int]*Task{}, early: map[int]bool{}}
	if o.Tasks > 0 {
		t.limitTasks(o.Tasks)
	}
	return t
}

// Calls are the numbers of the system calls that are to stop.
func (t *Tracer) Calls() []int { return slices.Collect(maps.Keys(t.calls)) }

// Code is the exit code of the step's first process, 128 and more for a signal.
func (t *Tracer) Code() int { return t.code }

// Refused is how many threads and processes the limit of tasks forbade.
func (t *Tracer) Refused() int64 { return t.refused }

// Attach begins to trace a process that waits, with all its threads: it is the step,
// and has the given credentials.
func (t *Tracer) Attach(pid int, creds fakeid.Creds) error {
	t.first = pid
	mem := &memory{}
	for again := true; again; {
		again = false
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return err
		}
		for _, e := range threads {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || t.tasks[tid] != nil {
				continue
			}
			again = true
			err = seize(tid)
			if err != nil && tid == pid {
				return forbidden(err)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("trace the first process: %w", err)
			} else if err != nil {
				continue
			}
			t.tasks[tid] = &Task{Tracer: t, TID: tid, PID: pid, Creds: creds, Root: "/", mem: mem}
		}
	}
	return nil
}

// forbidden says why a process cannot be traced.
func forbidden(err error) error {
	if scope, rerr := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); rerr == nil {
		if s := strings.TrimSpace(string(scope)); s == "2" || s == "3" {
			return fmt.Errorf("trace the step: kernel.yama.ptrace_scope is %s, which forbids ptrace(2): %w", s, err)
		}
	}
	return fmt.Errorf("trace the step: the seccomp profile of this container, or a security module, forbids ptrace(2): %w", err)
}

func seize(tid int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, traceOptions, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Run serves the step until its first process has ended, and kills what it left.
func (t *Tracer) Run() error {
	for {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECHILD {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for processes: %w", err)
		}
		t.event(tid, ws)
	}
}

func (t *Tracer) event(tid int, ws unix.WaitStatus) {
	k := t.tasks[tid]
	switch {
	case ws.Exited() || ws.Signaled():
		if k != nil && k.slot != 0 {
			k.mem.free = append(k.mem.free, k.slot)
		}
		delete(t.tasks, tid)
		delete(t.early, tid)
		if tid == t.first {
			t.end(ws)
		}
	case !ws.Stopped():
	case k == nil:
		t.early[tid] = true
	case t.ended:
		_ = unix.Kill(k.PID, unix.SIGKILL)
	default:
		k.stopped(ws)
	}
}

// end notes how the first process ended and kills the others.
func (t *Tracer) end(ws unix.WaitStatus) {
	t.ended = true
	t.code = ws.ExitStatus()
	if ws.Signaled() {
		t.code = 128 + int(ws.Signal())
	}
	for _, k := range t.tasks {
		_ = unix.Kill(k.PID, unix.SIGKILL)
	}
	for tid := range t.early {
		_ = unix.Kill(tid, unix.SIGKILL)
	}
}

// Knows reports whether a process or thread is the step's.
func (t *Tracer) Knows(pid int) bool { return t.tasks[pid] != nil }

// limitTasks refuses new threads and processes when there are n.
func (t *Tracer) limitTasks(n int) {
	for _, nr := range ptrace.StartCalls() {
		t.calls[nr] = func(*Call) (int64, error) {
			if len(t.tasks)+len(t.early) >= n {
				t.refused++
				return 0, unix.EAGAIN
			}
			return 0, ErrAsIs
		}
	}
}

// SignalAll signals all processes of the step but one and the first.
func (t *Tracer) SignalAll(but int, sig unix.Signal) {
	for tid, k := range t.tasks {
		if tid == k.PID && tid != but && tid != t.first {
			_ = unix.Kill(tid, sig)
		}
	}
}

// HasGroup reports whether a process group has a process of the step.
func (t *Tracer) HasGroup(pgid int) bool {
	for tid, k := range t.tasks {
		if tid != k.PID {
			continue
		}
		if g, err := unix.Getpgid(tid); err == nil && g == pgid {
			return true
		}
	}
	return false
}
