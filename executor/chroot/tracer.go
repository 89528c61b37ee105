package chroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/program"
	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/executor/fakeid"
)

// traceOptions make the tracer see what threads start and execute, and let nothing
// outlive it.
const traceOptions = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL

// tracer is the kernel of a step. All of it belongs to one operating system thread.
type tracer struct {
	view  view.View
	exec  *program.Shadows
	tasks map[int]*task
	// early are threads that stopped before their parent said that it started them.
	early map[int]bool
	first int // the process that the step is
	code  int // how it ended
	ended bool
	calls map[int]handler
	// uid and gid are this process's, which stand for root's.
	uid, gid int
	hostname string
	memory   int64 // limit of each process's data; 0 is none
	limited  bool  // it is set
	refused  int64 // threads and processes that the limit of tasks forbade
}

// task is a thread of the step.
type task struct {
	t        *tracer
	tid, pid int
	creds    fakeid.Creds
	root     string // of chroot(2), in the step's names
	mem      *memory
	slot     uint64 // of mem; 0 until it is needed
	large    largeMemory
	// after handles the end of the system call that the thread is in.
	after func(*call)
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
			t.tasks[tid] = &task{t: t, tid: tid, pid: pid, creds: creds, root: "/", mem: mem}
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
		_ = unix.Kill(k.pid, unix.SIGKILL)
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
		_ = unix.Kill(k.pid, unix.SIGKILL)
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
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_LISTEN, uintptr(k.tid), 0, 0, 0, 0)
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
	if k.after != nil {
		_ = unix.PtraceSyscall(k.tid, sig)
		return
	}
	_ = unix.PtraceCont(k.tid, sig)
}

// started takes a new thread or process in.
func (k *task) started() {
	msg, err := unix.PtraceGetEventMsg(k.tid)
	if err != nil {
		return
	}
	tid := int(msg)
	var g ptrace.Registers
	if g.Load(k.tid) != nil {
		return
	}
	n := &task{t: k.t, tid: tid, pid: tid, creds: k.creds, root: k.root, mem: &memory{}}
	flags := ptrace.CloneFlags(&g)
	if flags&unix.CLONE_THREAD != 0 {
		n.pid = k.pid
	}
	if flags&unix.CLONE_VM != 0 {
		n.mem = k.mem
	} else {
		n.mem.base, n.mem.next, n.slot = k.mem.base, k.mem.next, k.slot // it is a copy
	}
	k.t.tasks[tid] = n
	if k.t.early[tid] {
		delete(k.t.early, tid)
		n.resume(0)
	}
}

// executed is after execve(2): one thread is left, with the process's number.
func (k *task) executed() {
	old, err := unix.PtraceGetEventMsg(k.tid)
	if err == nil && int(old) != k.tid {
		if was := k.t.tasks[int(old)]; was != nil {
			k.creds, k.root, k.after = was.creds, was.root, was.after
			delete(k.t.tasks, int(old))
		}
	}
	k.mem, k.slot = &memory{}, 0
	if t := k.t; t.memory > 0 && !t.limited {
		t.limited = true // children inherit it
		limitMemory(k.tid, t.memory)
	}
	if after := k.after; after != nil {
		k.after = nil
		after(&call{k: k, done: true})
		k.after = nil
	}
}

// viewer resolves paths for this thread.
func (k *task) viewer() *view.Viewer {
	return &view.Viewer{View: &k.t.view, PID: k.pid, TID: k.tid, Root: k.root, Known: k.t.knows, Original: k.t.exec.Original}
}

// knows reports whether a process or thread is the step's.
func (t *tracer) knows(pid int) bool { return t.tasks[pid] != nil }

// limitTasks refuses new threads and processes when there are n.
func (t *tracer) limitTasks(n int) {
	for _, nr := range ptrace.StartCalls() {
		t.calls[nr] = func(*call) (int64, error) {
			if len(t.tasks)+len(t.early) >= n {
				t.refused++
				return 0, unix.EAGAIN
			}
			return 0, errAsIs
		}
	}
}
