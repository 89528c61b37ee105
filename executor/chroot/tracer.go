package chroot

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

// tracer traces the processes of a step, and has the system calls answered at which
// they stop. All of it belongs to one operating system thread.
type tracer struct {
	calls  map[int]handler
	onExec func(pid int)
	tasks  map[int]*task
	// early are threads that stopped before their parent said that it started them.
	early   map[int]bool
	first   int // the process that the step is
	code    int // how it ended
	ended   bool
	refused int64 // threads and processes that the limit of tasks forbade
}

// tracerOptions say what is traced.
type tracerOptions struct {
	// Calls answer the system calls that the filter stops, by their numbers.
	Calls map[int]handler
	// Tasks is how many threads and processes there may be; 0 is no limit.
	Tasks int
	// OnExec, which may be nil, is called with a process when the step's program begins
	// in it, before it runs.
	OnExec func(pid int)
}

// newTracer returns a tracer that traces nothing yet.
func newTracer(o tracerOptions) *tracer {
	t := &tracer{calls: maps.Clone(o.Calls), onExec: o.OnExec, tasks: map[int]*task{}, early: map[int]bool{}}
	if o.Tasks > 0 {
		t.limitTasks(o.Tasks)
	}
	return t
}

// Calls are the numbers of the system calls that are to stop.
func (t *tracer) Calls() []int { return slices.Collect(maps.Keys(t.calls)) }

// Code is the exit code of the step's first process, 128 and more for a signal.
func (t *tracer) Code() int { return t.code }

// Refused is how many threads and processes the limit of tasks forbade.
func (t *tracer) Refused() int64 { return t.refused }

// task is a thread of the step. What it starts inherits Creds and Root.
type task struct {
	Tracer *tracer
	// TID and PID are those of the thread and its process.
	TID, PID int
	Creds    fakeid.Creds
	Root     string // of chroot(2), in the step's names
	mem      *memory
	slot     uint64 // of mem; 0 until it is needed
	large    largeMemory
	// After handles the end of the system call that the thread is in.
	After func(*traced)
	saved ptrace.Registers // at its beginning
}

// memory is an address space; threads share it.
type memory struct {
	base uint64 // where slots are
	next uint64
	free []uint64 // of threads that have ended
}

// Paths that are rewritten lie in slots, one a thread, not on stacks: those of some
// languages are small.
const (
	slotSize  = 4 * ptrace.PageSize
	slotCount = 64
)

// attach begins to trace a process that waits, with all its threads.
func (t *tracer) attach(pid int, creds fakeid.Creds) error {
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
			t.tasks[tid] = &task{Tracer: t, TID: tid, PID: pid, Creds: creds, Root: "/", mem: mem}
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

// run serves the step until its first process has ended, and kills what it left.
func (t *tracer) run() error {
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

func (t *tracer) event(tid int, ws unix.WaitStatus) {
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
func (t *tracer) end(ws unix.WaitStatus) {
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

// stopped handles a stop and lets the thread go on. Errors are those of a thread
// that was killed meanwhile.
func (k *task) stopped(ws unix.WaitStatus) {
	sig := ws.StopSignal()
	event := int(uint32(ws)>>16) & 0xff
	switch {
	case sig == unix.SIGTRAP|0x80:
		k.leave()
	case sig == unix.SIGTRAP && event == unix.PTRACE_EVENT_SECCOMP:
		k.enter()
	case sig == unix.SIGTRAP && event == unix.PTRACE_EVENT_EXEC:
		k.executed()
		k.resume(0)
	case sig == unix.SIGTRAP && (event == unix.PTRACE_EVENT_FORK || event == unix.PTRACE_EVENT_VFORK || event == unix.PTRACE_EVENT_CLONE):
		k.started()
		k.resume(0)
	case event == unix.PTRACE_EVENT_STOP && isStop(sig):
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_LISTEN, uintptr(k.TID), 0, 0, 0, 0)
	case event == unix.PTRACE_EVENT_STOP:
		k.resume(0)
	default:
		k.resume(int(sig))
	}
}

func isStop(s unix.Signal) bool {
	return s == unix.SIGSTOP || s == unix.SIGTSTP || s == unix.SIGTTIN || s == unix.SIGTTOU
}

// resume lets the thread run on, to the end of its system call where that matters.
func (k *task) resume(sig int) {
	if k.After != nil {
		_ = unix.PtraceSyscall(k.TID, sig)
		return
	}
	_ = unix.PtraceCont(k.TID, sig)
}

// started takes a new thread or process in.
func (k *task) started() {
	msg, err := unix.PtraceGetEventMsg(k.TID)
	if err != nil {
		return
	}
	tid := int(msg)
	var g ptrace.Registers
	if g.Load(k.TID) != nil {
		return
	}
	n := &task{Tracer: k.Tracer, TID: tid, PID: tid, Creds: k.Creds, Root: k.Root, mem: &memory{}}
	flags := ptrace.CloneFlags(&g)
	if flags&unix.CLONE_THREAD != 0 {
		n.PID = k.PID
	}
	if flags&unix.CLONE_VM != 0 {
		n.mem = k.mem
	} else {
		n.mem.base, n.mem.next, n.slot = k.mem.base, k.mem.next, k.slot // it is a copy
	}
	k.Tracer.tasks[tid] = n
	if k.Tracer.early[tid] {
		delete(k.Tracer.early, tid)
		n.resume(0)
	}
}

// executed is after execve(2): one thread is left, with the process's number.
func (k *task) executed() {
	old, err := unix.PtraceGetEventMsg(k.TID)
	if err == nil && int(old) != k.TID {
		if was := k.Tracer.tasks[int(old)]; was != nil {
			k.Creds, k.Root, k.After = was.Creds, was.Root, was.After
			delete(k.Tracer.tasks, int(old))
		}
	}
	k.mem, k.slot = &memory{}, 0
	if f := k.Tracer.onExec; f != nil {
		k.Tracer.onExec = nil
		f(k.TID)
	}
	if after := k.After; after != nil {
		k.After = nil
		after(&traced{Task: k, Done: true})
		k.After = nil
	}
}

// Knows reports whether a process or thread is the step's.
func (t *tracer) Knows(pid int) bool { return t.tasks[pid] != nil }

// limitTasks refuses new threads and processes when there are n.
func (t *tracer) limitTasks(n int) {
	for _, nr := range ptrace.StartCalls() {
		t.calls[nr] = func(*traced) (int64, error) {
			if len(t.tasks)+len(t.early) >= n {
				t.refused++
				return 0, unix.EAGAIN
			}
			return 0, ErrAsIs
		}
	}
}

// SignalAll signals all processes of the step but one and the first.
func (t *tracer) SignalAll(but int, sig unix.Signal) {
	for tid, k := range t.tasks {
		if tid == k.PID && tid != but && tid != t.first {
			_ = unix.Kill(tid, sig)
		}
	}
}

// HasGroup reports whether a process group has a process of the step.
func (t *tracer) HasGroup(pgid int) bool {
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
