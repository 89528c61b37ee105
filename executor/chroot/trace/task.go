package trace

import (
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/fakeid"
)

// Task is a thread of the step. What it starts inherits Creds and Root.
type Task struct {
	Tracer *Tracer
	// TID and PID are those of the thread and its process.
	TID, PID int
	Creds    fakeid.Creds
	Root     string // of chroot(2), in the step's names
	mem      *memory
	slot     uint64 // of mem; 0 until it is needed
	large    largeMemory
	// After handles the end of the system call that the thread is in.
	After func(*Call)
	saved ptrace.Registers // at its beginning
}

// stopped handles a stop and lets the thread go on. Errors are those of a thread
// that was killed meanwhile.
func (k *Task) stopped(ws unix.WaitStatus) {
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
func (k *Task) resume(sig int) {
	if k.After != nil {
		_ = unix.PtraceSyscall(k.TID, sig)
		return
	}
	_ = unix.PtraceCont(k.TID, sig)
}

// started takes a new thread or process in.
func (k *Task) started() {
	msg, err := unix.PtraceGetEventMsg(k.TID)
	if err != nil {
		return
	}
	tid := int(msg)
	var g ptrace.Registers
	if g.Load(k.TID) != nil {
		return
	}
	n := &Task{Tracer: k.Tracer, TID: tid, PID: tid, Creds: k.Creds, Root: k.Root, mem: &memory{}}
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
func (k *Task) executed() {
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
		after(&Call{Task: k, Done: true})
		k.After = nil
	}
}
